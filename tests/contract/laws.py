"""Two laws of smoothing that no product file knows: they pass the suite that the served one passes.

Deletion   each token of a text of any length is deleted with probability `rate`, the rest moves up; radius in edits
Columns    some columns bear Gaussian noise, each of its own scale, and all but `kept` of the categories are hidden;
           a radius of two parts
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from math import comb

import numpy as np

from certify.smoothing.ball import Ball
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.keys import KEY_BYTES
from certify.smoothing.lattice_gaussian import RoundedGaussian
from certify.smoothing.law import HALF

PAD, HIDDEN = 0, -1
_UP, _DOWN = math.inf, -math.inf


def uniform(key: bytes, lane: int, start: int, stop: int, words: int) -> np.ndarray:
    """64-bit words (draws, words), each a function of key, lane and index."""
    blocks = -(-words // 4)
    raw = np.random.Philox(key=np.frombuffer(key, "<u8"), counter=[start * blocks, 0, 0, lane])
    return raw.random_raw((stop - start) * blocks * 4).reshape(stop - start, -1)[:, :words]


def whole_or_share(parameters, name: str) -> float:
    """A parameter that is a whole number to 64 or lies between 0 and 1, else what no parameter is equal to."""
    value = parameters.get(name)
    known = isinstance(value, float) and (0 <= value <= 1 or value in range(65))
    return value if known else math.nan


def largest(holds, top: int) -> int:
    """The largest whole number to `top` at which something that once fails stays false still holds, -1 for none."""
    return next((size for size in range(top, -1, -1) if holds(size)), -1)


@dataclass(frozen=True)
class Edits:
    norm: str = "edits"
    units: str = "tokens"
    whole: bool = True

    def within(self, centre, other, size):
        """Levenshtein's distance of two texts, padded behind."""
        one, two = ([int(token) for token in text if token != PAD] for text in (centre, other))
        row = list(range(len(two) + 1))
        for i, a in enumerate(one, 1):
            before, row = row, [i]
            for j, b in enumerate(two, 1):
                row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b)))
        return row[-1] <= size


@dataclass(frozen=True)
class DeletionGuarantee:
    """Let z be what is left of x when d tokens are taken out; x' is z with e tokens put in. All of the d are deleted with
    probability rate^d, so `p(x) <= rate^d p(z) + 1 - rate^d`, and likewise `p(x') >= rate^e p(z)`: at most r edits leave
    `p(x') >= rate^(e-d) (p(x) - 1 + rate^d)`, which is least at d = e = r (RS-Del, Huang et al. 2023).
    """

    rate: float
    length: int
    charge: float = 0.0
    name: str = "token-deletion"

    @property
    def parameters(self):
        return {"norm": "edits", "rate": self.rate, "length": float(self.length)}

    @property
    def parts(self):
        return (Edits(),)

    @property
    def reach(self):
        return self._ball(64)

    def least(self, p, ball, complement=None):
        lost = math.nextafter(1 - self._all_deleted(ball), _UP)
        short = 1 - p if complement is None else complement
        return max(0.0, math.nextafter(1 - math.nextafter(math.nextafter(short, _UP) + lost, _UP), _DOWN))

    def most(self, p, ball):
        return min(1.0, math.nextafter(1 - self.least(0.0, ball, complement=p), _UP))

    def needed(self, ball, threshold=HALF, side=1):
        exact = threshold + 1 - self._all_deleted(ball)
        return exact + side * (self.charge + 2.0**-50)

    def radius(self, complement, threshold=HALF):
        return self._ball(self._largest(lambda ball: self.least(0.0, ball, complement) > threshold))

    def radius_above(self, p, threshold=HALF):
        return self._ball(self._largest(lambda ball: p > self.needed(ball, threshold, -1)))

    def lead(self, complement, rival, margin):
        return self._ball(
            self._largest(lambda ball: self.least(0.0, ball, complement) - self.most(rival, ball) > margin + 2.0**-50)
        )

    def lead_above(self, p, rival):
        def holds(ball):
            return min(1.0, self._most_of_least(p, ball)) > self._least_of_most(rival, ball)

        return self._ball(self._largest(holds))

    def _most_of_least(self, p, ball):
        """`least`, rounded up."""
        return max(0.0, p - 1 + self.rate**ball.size + 2.0**-45)

    def _least_of_most(self, p, ball):
        """`most`, rounded down."""
        return min(1.0, p + 1 - self.rate**ball.size - 2.0**-45)

    def _largest(self, holds):
        return max(0, largest(lambda size: holds(self._ball(size)), 64))

    def _all_deleted(self, ball):
        return self.rate**ball.size * (1 - 2.0**-46)

    def _ball(self, edits):
        return Ball(self.parts, (float(edits),))


@dataclass(frozen=True)
class DeletionAt:
    x: np.ndarray
    rate: float
    name: str = "token-deletion"
    stream: str = "deletion-test"
    ballots: int = 1

    @property
    def guarantee(self):
        return DeletionGuarantee(self.rate, int(np.sum(self.x != PAD)))

    def sample(self, key, start, stop):
        tokens = self.x[self.x != PAD]
        bits = uniform(key, 0, start, stop, len(tokens)) >> np.uint64(48)
        kept = bits >= np.uint64(self.rate * 2**16)  # exact where the rate is a multiple of 2^-16
        out = np.full((stop - start, *self.x.shape), PAD, dtype=np.int32)
        places = kept.cumsum(axis=1) - 1
        draws, columns = np.nonzero(kept)
        out[draws, places[draws, columns]] = tokens[columns]
        return out


@dataclass(frozen=True)
class Deletion:
    rate: float = 0.75
    name: str = "token-deletion"

    @property
    def tensors(self):
        return {}

    def at(self, x):
        return DeletionAt(np.asarray(x, dtype=np.int32), self.rate)

    def span(self, lowest, highest):
        return min(PAD, lowest), max(PAD, highest)

    @staticmethod
    def rebuild(parameters, charge):
        known = {"norm": "edits", **{name: whole_or_share(parameters, name) for name in ("rate", "length")}}
        if parameters != known or not 0 < known["rate"] < 1:
            raise ValueError("parameters: expected a norm of edits, a rate and a length")
        return DeletionGuarantee(known["rate"], int(known["length"]), charge)


@dataclass(frozen=True)
class Scaled:
    """The l2 norm of the first columns, each in the units of its own noise: exact in whole numbers of steps."""

    sigmas: tuple[int, ...]
    norm: str = "l2"
    units: str = "sigmas"
    whole: bool = False

    def within(self, centre, other, size):
        moved = [int(b) - int(a) for a, b in zip(centre, other, strict=True)][: len(self.sigmas)]
        common = math.prod(self.sigmas)
        squares = sum((step * common // sigma) ** 2 for step, sigma in zip(moved, self.sigmas, strict=True))
        numerator, denominator = float(size).as_integer_ratio()
        return squares * denominator**2 <= (numerator * common) ** 2


@dataclass(frozen=True)
class Categories:
    first: int
    norm: str = "categories"
    units: str = "columns"
    whole: bool = True

    def within(self, centre, other, size):
        return int(np.sum(np.asarray(centre)[self.first :] != np.asarray(other)[self.first :])) <= size


@dataclass(frozen=True)
class ColumnsGuarantee:
    """With probability 1 - D no changed category is shown, D = 1 - C(h-r, k) / C(h, k); given that, the law of the rest is
    Gaussian around another point: `least = (1 - D) Phi(Phi^-1((p - D) / (1 - D)) - R)`, R in sigmas. Its balls are those
    of the declared number of changed categories, unless one is handed in.
    """

    sigmas: tuple[int, ...]
    categories: int
    kept: int
    changed: int
    charge: float = 0.0
    name: str = "columns"

    @property
    def parameters(self):
        counts = {"categories": self.categories, "kept": self.kept, "changed": self.changed}
        scales = {f"sigma_{place}": sigma for place, sigma in enumerate(self.sigmas)}
        return {"norm": "l2+categories", **{name: float(value) for name, value in (counts | scales).items()}}

    @property
    def parts(self):
        return Scaled(self.sigmas), Categories(len(self.sigmas))

    @property
    def reach(self):
        return Ball(self.parts, (8.0, float(self.changed)))

    def least(self, p, ball, complement=None):
        short, shown = (1 - p if complement is None else complement), self._shown(ball)
        inside = short / shown * (1 + 2.0**-46) if shown else 1.0
        if inside >= 1:
            return 0.0
        return shown * self._noise.least(0.0, self._length(ball), complement=inside) * (1 - 2.0**-50)

    def most(self, p, ball):
        return min(1.0, math.nextafter(1 - self.least(0.0, ball, complement=p), _UP))

    def needed(self, ball, threshold=HALF, side=1):
        shown = self._shown(ball)
        inside = threshold / shown * (1 + side * 2.0**-46) if shown else 1.0
        if inside >= 1:
            return 2.0 if side > 0 else 1.0
        return (
            1 - shown + shown * self._noise.needed(self._length(ball), inside, side) + side * (self.charge + 2.0**-46)
        )

    def radius(self, complement, threshold=HALF):
        shown = self._shown(self.reach)
        inside, above = complement / shown * (1 + 2.0**-46), threshold / shown * (1 + 2.0**-46)
        return self._ball(self._noise.radius(inside, above).size if max(inside, above) < 1 else 0.0)

    def radius_above(self, p, threshold=HALF):
        shown = self._shown(self.reach)
        inside, above = (p - 1 + shown) / shown * (1 + 2.0**-46), threshold / shown * (1 - 2.0**-46)
        return self._ball(self._noise.radius_above(inside, above).size if above < 1 and inside > 0 else 0.0)

    def lead(self, complement, rival, margin):
        def holds(size):
            ball = Ball(self.parts, (size, float(self.changed)))
            return self.least(0.0, ball, complement) - self.most(rival, ball) > margin + 2.0**-50

        found = largest(lambda steps: holds(steps / 64), 512)
        return self._ball(found / 64 if found > 0 else 0.0)

    def lead_above(self, p, rival):
        """Of no use: two-sided bounds are for balls of one part."""
        return self.reach

    @property
    def _noise(self):
        return Gaussian(1.0)

    def _length(self, ball):
        return Ball(self._noise.parts, ball.sizes[:1])

    def _shown(self, ball):
        """`1 - D`: how likely no changed category is shown."""
        return comb(self.categories - int(ball.sizes[1]), self.kept) / comb(self.categories, self.kept)

    def _ball(self, size):
        return Ball(self.parts, (size, float(self.changed) if size > 0 else 0.0))


@dataclass(frozen=True)
class ColumnsAt:
    x: np.ndarray
    law: Columns
    name: str = "columns"
    stream: str = "columns-test"
    ballots: int = 1

    @property
    def guarantee(self):
        categories = len(self.x) - len(self.law.sigmas)
        charge = sum(table.charge(1) for table in self.law.tables) + categories**2 * 2.0**-63  # equal words
        return ColumnsGuarantee(self.law.sigmas, categories, self.law.kept, self.law.changed, charge)

    def sample(self, key, start, stop):
        out = np.tile(self.x, (stop - start, 1))
        for column, table in enumerate(self.law.tables):
            own = hashlib.sha256(key + bytes([column])).digest()[:KEY_BYTES]
            out[:, column] += table.sample(own, start, stop, 1)[:, 0]
        shown = out[:, len(self.law.sigmas) :]
        order = uniform(key, 2, start, stop, shown.shape[1]).argsort(axis=1)
        np.put_along_axis(shown, order[:, self.law.kept :], HIDDEN, axis=1)
        return out


@dataclass(frozen=True, eq=False)
class Columns:
    sigmas: tuple[int, ...]
    tables: tuple[RoundedGaussian, ...]
    kept: int
    changed: int
    name: str = "columns"

    @property
    def tensors(self):
        return {f"column_{place}": table.tails for place, table in enumerate(self.tables)}

    def at(self, x):
        return ColumnsAt(np.asarray(x, dtype=np.int32), self)

    def span(self, lowest, highest):
        reach = max(table.largest for table in self.tables)
        return min(HIDDEN, lowest - reach), highest + reach

    @staticmethod
    def rebuild(parameters, charge):
        names = ["categories", "kept", "changed", *(f"sigma_{place}" for place in range(len(parameters) - 4))]
        found = [whole_or_share(parameters, name) for name in names]
        known = parameters == {"norm": "l2+categories", **dict(zip(names, found, strict=True))}
        if not known or min(found) < 1 or found[1] + found[2] > found[0]:
            raise ValueError("parameters: expected a norm of l2+categories, whole numbers and a scale for each column")
        categories, kept, changed, *scales = map(int, found)
        return ColumnsGuarantee(tuple(scales), categories, kept, changed, charge)
