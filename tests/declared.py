"""Parts of manifests for tests, in few words."""

from __future__ import annotations

from export.bundle import FeaturesKind, GaussianSpec, GridSpec, ImageKind, InputSpec, WaveformKind


def spec(
    shape,
    layout="features",
    low=0.0,
    step=1.0,
    high=255.0,
    units="steps",
    name="x",
    mode=None,
    step_length=None,
    **files,
):
    """The input of a bundle: pictures in the mode that their channels tell, read as `files` says, or plain features."""
    channels = shape[0] if layout == "CHW" else shape[-1]
    kind = (
        FeaturesKind(kind="features")
        if layout == "features"
        else ImageKind(kind="image", layout=layout, mode=mode or {1: "L", 3: "RGB"}[channels], **files)
    )
    grid = GridSpec(low=low, step=step, high=high, units=units, step_length=step_length)
    return InputSpec(name=name, kind=kind, shape=shape, grid=grid)


def sound_spec(shape, rate, name="x"):
    """Signed samples of 16 bits."""
    grid = GridSpec(low=-32_768.0, step=1.0, high=32_767.0, units="steps")
    return InputSpec(name=name, kind=WaveformKind(kind="waveform", rate=rate), shape=shape, grid=grid)


def gaussian(sigma, steps=None):
    """The law, on steps of 1 unless others are said."""
    return GaussianSpec(name="gaussian", stream="noise-v1", sigma=sigma, sigma_steps=sigma if steps is None else steps)
