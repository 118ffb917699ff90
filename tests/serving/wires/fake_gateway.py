"""A gateway that answers without an engine: fixed claims, a record of what it was asked, and failures on demand."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from certify.claims.certificate import AlphaSplit, Certificate, LowerBound
from certify.claims.confidence import Confidence
from certify.mixture.mix import Mixture
from certify.ood.joint_label import JointLabel
from certify.ood.verdict import CertifiedScore, Ood
from certify.smoothing.gaussian import Gaussian
from export.bundle import FORMAT, ArgmaxRule, Defaults, Manifest, MixtureSpec, OodSpec, claims, graphs
from serving.budget import BufferedBytes
from serving.config import Limits
from serving.errors import NotFound
from serving.events import Base, Final, Progress
from serving.gateway.statistics import Statistics
from serving.messages import Answer, InputNote, Model, ModelIdentity, Prediction
from tests.certify.gaussian import ball
from tests.declared import gaussian, spec

DIGEST = "sha256:" + "0" * 64
RUNTIME = "onnxruntime 1.2.3 CPUExecutionProvider, x86_64 avx2"
SPLIT = AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2)


def manifest(name="pictures", version="1", shape=(1, 28, 28), layout="CHW", high=255.0, **changes):
    fields = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "description": "for tests of the wires",
        "labels": tuple(f"class {i}" for i in range(4)),
        "input": spec(shape, layout, high=high, name="image"),
        "law": gaussian(16.0),
        "graphs": graphs(score=True),
        "decision": ArgmaxRule(rule="argmax"),
        "claims": claims(of_class=0.5, upper=0.2, threshold=0.1, interval=0.2),
        "ood": OodSpec(
            score="md", normalised=False, score_draws=32, target_tpr=0.95, eta=0.01, threshold=8.5, radius=8.0
        ),
        "mixture": MixtureSpec(robust_weight=0.9),
        "defaults": Defaults(target_radius=8.0),
    }
    return Manifest(**{**fields, **changes})


def model(**settings):
    return Model(manifest=manifest(**settings), digest=DIGEST)


CERTIFIED = Certificate(
    status="certified",
    procedure="target",
    law=Gaussian(15.999999999999998),
    bound=LowerBound(class_index=2, complement=0.023, draws=384, alpha=0.0005),
    p_b_upper=0.021,
    draws=384,
    lost=0,
    target=ball(8.0),
)
ABSTAINED = Certificate(
    status="undecided", procedure="best", law=Gaussian(15.999999999999998), bound=None, p_b_upper=0.7, draws=64, lost=32
)
INSIDE = Ood(
    score=5.1,
    p_value=0.62,
    in_distribution=True,
    threshold=8.5,
    certified=CertifiedScore(verdict="in_distribution", score_lower=3.9, score_upper=6.8, radius=8.0),
)
INFINITE = Ood(
    score=float("inf"),
    p_value=0.001,
    in_distribution=False,
    threshold=8.5,
    certified=CertifiedScore(verdict="undetermined", score_lower=3.9, score_upper=None, radius=8.0),
)
JOINT = JointLabel(
    bound=LowerBound(class_index=2, complement=0.031, draws=384, alpha=0.0001),
    law=Gaussian(15.999999999999998),
    classes=4,
    threshold=8.5,
)
CONFIDENT = Confidence(
    law=Gaussian(15.999999999999998), class_index=2, ball=ball(7.5), lower=0.4375, lower_at_input=0.875
)
MIXED = Mixture(class_index=2, probabilities=(0.1, 0.05, 0.8, 0.05), robust_weight=0.9, radius=6.5)
SHARES = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)


def prediction(certificate=CERTIFIED, ood=INSIDE, mixture=MIXED, input=None, granted_draws=None):
    return Prediction(
        class_index=3,
        probabilities=SHARES,
        certificate=certificate,
        ood=ood,
        mixture=mixture,
        alpha=0.001,
        alpha_split=SPLIT,
        draws=384,
        lost_draws=0,
        input=input,
        granted_draws=granted_draws,
    )


ROWS = (
    prediction(),
    prediction(certificate=ABSTAINED, ood=INFINITE, input=InputNote(snapped=True, snap_distance=0.25)),
    prediction(certificate=None, ood=None, mixture=None, granted_draws=512),
)
"""All that is there, all that can be absent inside, and all that can be absent."""


def answer(*rows, of=None):
    of = of or model()
    identity = ModelIdentity(name=of.manifest.name, version=of.manifest.version, digest=of.digest, runtime=RUNTIME)
    return Answer(
        model=identity,
        labels=of.manifest.labels,
        predictions=rows or ROWS,
        queue_s=0.000125,
        compute_s=0.0025,
        step=of.manifest.input.length,
    )


class FakeGateway:
    """Serves `models`; answers the rows of ROWS in turn, unless `failure` is set or `hold` is not."""

    def __init__(self, *models, limits=None):
        self.limits = limits or Limits()
        self.buffered = BufferedBytes(self.limits.max_buffered_bytes)
        self.statistics = Statistics()
        self._models = list(models) or [model(), model(version="2"), model(name="rgb", shape=(8, 8, 3), layout="HWC")]
        self.is_ready, self.broken = True, ""
        self.failure = None
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = []
        self.observed = []
        self.cancelled = 0

    def admitted(self):
        return nullcontext()

    async def predict(self, request):
        self.asked.append(request)
        try:
            await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure:
            raise self.failure
        rows = [ROWS[i % len(ROWS)] for i in range(len(request.inputs))]
        return answer(*rows, of=self.model(request.model, request.version))

    async def events(self, request):
        """A base event, one of progress, and the answer, which is that of `predict`."""
        rows = [ROWS[i % len(ROWS)] for i in range(len(request.inputs))]
        model = self.model(request.model, request.version)
        bare = dict.fromkeys(("certificate", "ood", "mixture", "joint", "confidence", "granted_draws", "receipt"))
        yield Base(answer(*(replace(row, draws=0, **bare) for row in rows), of=model))
        yield Progress(answer(*(replace(row, draws=64) for row in rows), of=model))
        yield Final(await self.predict(request))

    def model(self, name, version=None):
        found = [
            each for each in self._models if each.manifest.name == name and version in (None, each.manifest.version)
        ]
        if not found:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return max(found, key=lambda each: int(each.manifest.version))

    def models(self):
        return self._models

    def examples(self, model):
        return np.arange(3 * model.manifest.input.size, dtype=np.int32).reshape(3, *model.manifest.input.shape) % 256

    def unready(self):
        return "" if self.is_ready else "its models are still being proven"

    def failed(self):
        return self.broken

    def observe(self, protocol, code, seconds):
        assert seconds >= 0
        self.observed.append((protocol, code))
