"""Where a model comes from: an ONNX file, a torch module or a scikit-learn classifier, each a `Source`, never a pickle.

Absent: data, and anything that is fitted.
"""
