"""Fifty requests to two exact models, and how each is answered without threads, clock or runtime.

`python -m tests.contract.recorded_answers` records the answers. They are what clients were given by a first release, so
record a new case beside the old ones; an old one that changes is a broken promise.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.special import betainc, betaincc, betainccinv, betaln, ndtr, ndtri

from certify.claims.procedures import SLICE
from export.bundle import Bundle
from serving.config import Limits
from serving.engine.job import Job, SliceResult
from serving.engine.shares import ShareJob, merge, split
from serving.gateway.resolve import resolve
from serving.messages import Model, Options, Prediction, PredictRequest, Reply
from serving.security.signing import Notary, Signer
from tests.half_space import CUT, write_half_space
from tests.three_classes import CUTS, write_three_classes

FILE = Path(__file__).parents[1] / "data/recorded_answers.json"
SECRET = b"a secret of the recorded answers"
NOTARY = Notary(signer=Signer(b"r" * 32), runtime="numpy")
MODELS = ("half-space", "strict detector", "class alone", "three-classes")


@dataclass(frozen=True)
class Case:
    """A request, the slices that come to nothing, where the draws are cut, what overload leaves, how many engines count."""

    model: str
    x: int
    options: dict = field(default_factory=dict)
    lost: tuple[int, ...] = ()
    cut: int | None = None
    granted: int | None = None
    engines: int = 1


HALF, STRICT, ALONE, THREE = MODELS
CASES = {
    "target, far": Case(HALF, 200),
    "target, certified": Case(HALF, 150, {"receipt": True}),
    "target, small alpha": Case(HALF, 150, {"alpha": 1e-6}),
    "target, large alpha": Case(HALF, 150, {"alpha": 0.5}),
    "target, refuted": Case(HALF, 130, {"target_radius": 16.0, "receipt": True}),
    "target, undecided": Case(HALF, 136, {"max_draws": 640, "receipt": True}),
    "target of zero": Case(HALF, 130, {"target_radius": 0.0, "receipt": True}),
    "target of a part of sigma": Case(HALF, 150, {"target_radius": 0.1}),
    "target beyond all proof": Case(HALF, 250, {"target_radius": 128.0, "max_draws": 2_000}),
    "target, the other class": Case(HALF, 90, {"target_radius": 20.0, "receipt": True}),
    "target, few draws": Case(HALF, 150, {"max_draws": 7, "receipt": True}),
    "target, no draw": Case(HALF, 150, {"receipt": True}, cut=0),
    "target, cut": Case(HALF, 150, {"target_radius": 22.0, "receipt": True}, cut=640),
    "target, a slice lost": Case(HALF, 150, {"receipt": True}, lost=(32,)),
    "target, the first slice lost": Case(HALF, 150, {"receipt": True}, lost=(0,)),
    "target, many slices lost": Case(HALF, 160, {"target_radius": 12.0, "receipt": True}, tuple(range(0, 9_984, 128))),
    "target, all lost": Case(HALF, 200, {"max_draws": 320, "receipt": True}, lost=tuple(range(0, 320, 32))),
    "target, granted few": Case(HALF, 136, {"receipt": True}, granted=512),
    "target, certificate alone": Case(HALF, 150, {"outputs": ("certificate",), "receipt": True}),
    "target, mixture alone": Case(HALF, 150, {"outputs": ("mixture",), "receipt": True}),
    "target, near the threshold of the score": Case(HALF, 158, {"receipt": True}),
    "target, outside": Case(HALF, 250, {"receipt": True}),
    "best, few": Case(HALF, 150, {"certify": "best", "max_draws": 320, "receipt": True}),
    "best, many": Case(HALF, 150, {"certify": "best", "max_draws": 20_000, "receipt": True}),
    "best, all agree": Case(HALF, 250, {"certify": "best", "receipt": True}),
    "best, near the cut": Case(HALF, 128, {"certify": "best", "receipt": True}),
    "best, small alpha": Case(HALF, 170, {"certify": "best", "alpha": 1e-9}),
    "best, cut within": Case(HALF, 150, {"certify": "best", "receipt": True}, cut=2_016),
    "best, lost": Case(HALF, 150, {"certify": "best", "max_draws": 3_200, "receipt": True}, lost=(0, 320, 3_168)),
    "best, by two engines": Case(HALF, 150, {"certify": "best"}, engines=2),
    "best, by three engines, lost": Case(HALF, 170, {"certify": "best", "max_draws": 9_999}, (64, 9_984), engines=3),
    "precision, reached": Case(HALF, 150, {"certify": "precision", "radius_tolerance": 4.0, "receipt": True}),
    "precision, not reached": Case(
        HALF, 150, {"certify": "precision", "radius_tolerance": 0.1, "max_draws": 640, "receipt": True}
    ),
    "precision, near the cut": Case(HALF, 129, {"certify": "precision", "radius_tolerance": 2.0, "alpha": 0.05}),
    "precision, lost": Case(HALF, 160, {"certify": "precision", "radius_tolerance": 8.0}, lost=(32,)),
    "fixed": Case(HALF, 150, {"certify": "fixed", "receipt": True}),
    "fixed, many": Case(HALF, 150, {"certify": "fixed", "draws": 10_000, "receipt": True}),
    "fixed, lost": Case(HALF, 150, {"certify": "fixed", "receipt": True}, lost=(0, 96)),
    "fixed, the score lost": Case(HALF, 150, {"certify": "fixed", "receipt": True}, lost=(-32,)),
    "fixed, cut": Case(HALF, 150, {"certify": "fixed", "receipt": True}, cut=960),
    "fixed, no score": Case(HALF, 150, {"certify": "fixed", "outputs": ("certificate",), "receipt": True}),
    "fixed, by four engines": Case(HALF, 145, {"certify": "fixed", "draws": 10_000}, engines=4),
    "off": Case(HALF, 150, {"certify": "off", "receipt": True}),
    "off, outside": Case(HALF, 250, {"certify": "off", "receipt": True}),
    "off, lost": Case(HALF, 150, {"certify": "off", "receipt": True}, lost=(0,)),
    "off, nothing asked": Case(HALF, 150, {"certify": "off", "outputs": ("probabilities",)}),
    "strict detector, target": Case(STRICT, 150, {"receipt": True}),
    "strict detector, best": Case(STRICT, 110, {"certify": "best", "max_draws": 2_560, "receipt": True}),
    "class alone, target": Case(ALONE, 150, {"receipt": True}),
    "class alone, best": Case(ALONE, 120, {"certify": "best", "receipt": True}),
    "class alone, fixed": Case(ALONE, 120, {"certify": "fixed", "receipt": True}),
    "three classes, the band": Case(THREE, 128, {"receipt": True}),
    "three classes, refuted": Case(THREE, 100, {"receipt": True}),
    "three classes, best": Case(THREE, 120, {"certify": "best", "receipt": True}),
    "three classes, precision": Case(THREE, 190, {"certify": "precision", "radius_tolerance": 6.0, "receipt": True}),
    "three classes, fixed": Case(THREE, 200, {"certify": "fixed", "receipt": True}),
    "three classes, by two engines": Case(THREE, 90, {"certify": "best", "max_draws": 5_000}, engines=2),
}


def models(folder: Path) -> dict[str, Bundle]:
    """The models under a digest that no other version of a library changes: keys are derived from it."""
    half = write_half_space(folder)
    detector = replace(half.detector, threshold=140.0, radius=3.0, calibration=np.linspace(0.0, 150.0, 400))
    found = {
        HALF: half,
        STRICT: replace(half, detector=detector),
        ALONE: write_half_space(folder, name="class-alone", class_alone=True),
        THREE: write_three_classes(folder),
    }
    return {name: replace(each, digest=f"sha256:{number:064x}") for number, (name, each) in enumerate(found.items(), 1)}


def answer(case: Case, bundle: Bundle) -> Prediction:
    """What the server gives for the request."""
    row = np.array([[case.x, 1, 2, 3]], dtype=np.int32)
    request = PredictRequest(model=bundle.manifest.name, version=None, inputs=row, options=Options(**case.options))
    model = Model(manifest=bundle.manifest, digest=bundle.digest)
    task, _ = resolve(request, model, Limits(), SECRET)
    if case.engines > 1:
        ranges = split(task, case.engines)
        assert len(ranges) == case.engines
        replies = [_reply(ShareJob(bundle, task, 0, draws), case) for draws in ranges]
        return merge(bundle, task, ranges, replies).rows[0]
    job = Job(bundle, task, 0, NOTARY if task.receipt else None)
    if case.granted is not None:
        job.shorten(case.granted)
    return _counted(job, case)


def _reply(job: ShareJob, case: Case) -> Reply:
    return Reply(rows=(_counted(job, case),), queue_s=0.0, compute_s=0.0, digest=job.bundle.digest, runtime="numpy")


def _counted(job: Job | ShareJob, case: Case) -> object:
    classes = len(job.bundle.manifest.labels)
    job.receive_base(np.array([0.25, 0.75] if classes == 2 else [0.125, 0.75, 0.125], dtype=np.float32))
    place = job.first
    while job.drawing and (case.cut is None or place < case.cut):
        rows = min(SLICE, job.max_draws - place)
        found = (None, None) if place in case.lost else _passes(job, place, rows)
        job.receive(place, SliceResult(rows, *found))
        place += rows
    return job.answer()


def _passes(job: Job | ShareJob, place: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    key, start = job.source(place)
    first = job.bundle.law.at(job.lattice).sample(key, start, start + rows)[:, 0]
    if len(job.bundle.manifest.labels) == 2:
        return (first > CUT).astype(np.int64), first.astype(np.float32)
    return np.searchsorted(CUTS, first).astype(np.int64), np.zeros(rows, dtype=np.float32)


def document(prediction: Prediction) -> dict[str, object]:
    """All that is claimed, every float as its hexadecimal text, with the receipt but for its signature."""
    certificate, receipt = prediction.certificate, prediction.receipt
    names = ("status", "class_index", "radius", "p_a_lower", "p_b_upper", "procedure", "draws", "lost")
    names += ("target_radius", "radius_tolerance")
    claimed = certificate and {name: _exact(getattr(certificate, name)) for name in names}
    return {
        "certificate": claimed and claimed | _exact(dict(certificate.law.parameters)),
        "ood": prediction.ood and _exact(_without_further(asdict(prediction.ood))),
        "mixture": prediction.mixture and _exact(asdict(prediction.mixture)),
        "alpha": _exact(prediction.alpha),
        "alpha_split": _exact(_without_further(asdict(prediction.alpha_split))),
        "draws": prediction.draws,
        "lost_draws": prediction.lost_draws,
        "granted_draws": prediction.granted_draws,
        "receipt": receipt and json.loads(receipt)["receipt"],
    }


def _without_further(part: dict[str, object]) -> dict[str, object]:
    """What a bundle may declare beside the rest is left out where it does not."""
    return {name: value for name, value in part.items() if value or name not in ("robust_alarm", "of_confidence")}


def _exact(value: object) -> object:
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(each) for each in value]
    return value.hex() if isinstance(value, float) else value


def arithmetic() -> str:
    """A fingerprint of the last bits of the special functions here, which differ between processors and libraries."""
    p, n = np.linspace(0.001, 0.999, 500), np.arange(1.0, 501.0)
    values = [ndtr(-4 * p), ndtri(p), betainc(n, 7.5, p), betaincc(7.5, n, p), betainccinv(3.0, n, p), betaln(n, 0.5)]
    scalars = [f(float(each)) for each in p for f in (math.log, math.log1p, math.expm1, math.sqrt)]
    return hashlib.sha256(b"".join(each.tobytes() for each in [*values, np.array(scalars)])).hexdigest()


def found(bundles: dict[str, Bundle]) -> Iterator[tuple[str, dict[str, object]]]:
    """Each case by its name, with its answer."""
    for name, case in CASES.items():
        yield name, document(answer(case, bundles[case.model]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        lines = [
            f"{json.dumps(name)}: {json.dumps(each, sort_keys=True)}" for name, each in found(models(Path(folder)))
        ]
    text = f'{{"arithmetic": "{arithmetic()}", "answers": {{\n' + ",\n".join(lines) + "\n}}\n"
    FILE.write_text(text)
