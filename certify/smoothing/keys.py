"""Keys of draws, and the digest of what they are drawn for: each draw is a pure function of (key, index).

A key is the first 128 bits of HMAC-SHA256 over the name of the stream, the bundle's digest and the input: not over alpha,
target or deadline, so all requests on one input read one stream and asking again cannot buy a luckier certificate.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISE_V1 = "noise-v1"
"""The stream of `certify.smoothing.lattice_gaussian`."""
KEY_BYTES = 16


def derive_key(
    secret: bytes,
    bundle_digest: bytes,
    lattice: NDArray[np.integer[Any]],
    fixed_draws: int | None = None,
    stream: str = NOISE_V1,
) -> bytes:
    """The 16-byte key of one lattice input under one bundle, for the draws of one stream.

    `fixed_draws` is given by the `fixed` procedure alone: Clopper-Pearson needs a stream of its own for each number of
    draws on the bundle's menu. The score is of the stream without it, in every procedure.
    """
    message = [stream.encode(), b"\0", bundle_digest, lattice_digest(lattice)]
    if fixed_draws is not None:
        message += [b"fixed", fixed_draws.to_bytes(8, "little")]
    return hmac.new(secret, b"".join(message), hashlib.sha256).digest()[:KEY_BYTES]


def lattice_digest(lattice: NDArray[np.integer[Any]]) -> bytes:
    """SHA-256 of an integer tensor as int32 with its shape, both little-endian."""
    shape = np.array([lattice.ndim, *lattice.shape], dtype="<i8").tobytes()
    return hashlib.sha256(shape + np.ascontiguousarray(lattice, dtype="<i4").tobytes()).digest()
