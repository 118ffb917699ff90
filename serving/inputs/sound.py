"""WAV files as rows of grid integers: the signed samples themselves, the most negative being 0. Nothing is resampled."""

from __future__ import annotations

import io
import wave

import numpy as np
from numpy.typing import NDArray

from export.bundle import InputSpec, WaveformKind
from serving.errors import InvalidInput
from serving.inputs import work

FORMATS = {"audio/wav": "WAV"}
_BYTES = 2


def sniffed(data: bytes) -> str | None:
    """The content type, if the first bytes are those of a WAV file."""
    return "audio/wav" if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else None


def decode(data: bytes, content_type: str, spec: InputSpec) -> NDArray[np.int32]:
    """The samples in `data` in the shape that `spec` declares."""
    if not isinstance(spec.kind, WaveformKind):
        raise InvalidInput(f"this model takes no sound; send JSON or tensors of shape {list(spec.shape)}")
    work.take(4 * spec.size)
    try:
        with wave.open(io.BytesIO(data)) as file:
            form = (file.getnchannels(), 8 * file.getsampwidth(), file.getframerate(), file.getnframes())
            frames = file.readframes(spec.size + 1)
    except (wave.Error, EOFError, ValueError) as error:
        raise InvalidInput(f"the body is not a readable WAV file ({str(error) or 'it ends too early'})") from None
    expected = (1, 8 * _BYTES, spec.kind.rate, spec.size)
    if form != expected:
        said = ("{} channels of {} bits at {} Hz, {} samples".format(*each) for each in (form, expected))
        raise InvalidInput(f"the sound has {next(said)}; expected {next(said)}: convert it before sending")
    if len(frames) != _BYTES * spec.size:
        raise InvalidInput("the WAV file is truncated or damaged (its samples are not all there); send it again")
    return (np.frombuffer(frames, "<i2").astype(np.int32) + spec.zero).reshape(spec.shape)
