"""Parts of manifests for tests, in few words."""

from __future__ import annotations

from export.bundle import FeaturesKind, GaussianSpec, Grid, ImageKind, InputSpec


def spec(shape, layout="features", low=0.0, step=1.0, high=255.0, units="steps", name="x", mode=None):
    """The input of a bundle: pictures in a layout, in the mode that their channels tell, or plain features."""
    channels = shape[0] if layout == "CHW" else shape[-1]
    kind = (
        FeaturesKind(kind="features")
        if layout == "features"
        else ImageKind(kind="image", layout=layout, mode=mode or {1: "L", 3: "RGB"}[channels])
    )
    return InputSpec(name=name, kind=kind, shape=shape, grid=Grid(low=low, step=step, high=high, units=units))


def gaussian(sigma, steps=None):
    """The law, on steps of 1 unless others are said."""
    return GaussianSpec(name="gaussian", stream="noise-v1", sigma=sigma, sigma_steps=sigma if steps is None else steps)
