"""A robust network where the user has none: fine-tuned under the noise of the law, or a denoiser before a frozen network.

`robustify` is the way in. Absent: bundles: what comes out are weights and a graph, which `own_model.export` takes beside the
original.
"""
