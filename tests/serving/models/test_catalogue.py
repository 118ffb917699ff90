"""What is served may change while requests are on their way: each is answered by one bundle, or told to come again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from serving.config import Limits
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.errors import NotFound, Unavailable
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.messages import Options, PredictRequest, Reply
from serving.models.catalogue import Catalogue, Snapshot
from tests.half_space import write_half_space
from tests.serving.wires.fake_gateway import model, prediction
from tests.serving.wrapped import Wrapped, held_in_draws

FIRST = model()
SECOND = replace(FIRST, digest="sha256:" + "1" * 64)


class Answering:
    """Answers every task under the digest that it names, and says what it was asked."""

    def __init__(self):
        self.asked = []

    async def predict(self, task):
        self.asked.append(task.digest)
        return Reply(rows=(prediction(),), queue_s=0, compute_s=0, digest=task.digest, runtime="r")


def request(digest="", **options):
    inputs = np.zeros((1, 1, 28, 28), np.int64)
    return PredictRequest(model="pictures", version=None, inputs=inputs, options=Options(**options), digest=digest)


def server(catalogue, predictor):
    return Gateway(catalogue, predictor, b"s" * 32, Limits())


async def test_a_change_is_seen_by_the_next_request_and_answers_name_what_gave_them():
    catalogue, engine = Catalogue([FIRST]), Answering()
    gateway = server(catalogue, engine)
    assert (await gateway.predict(request())).model.digest == FIRST.digest
    catalogue.change([SECOND, model(name="other")])
    assert (await gateway.predict(request())).model.digest == SECOND.digest
    assert engine.asked == [FIRST.digest, SECOND.digest]
    assert [each.manifest.name for each in gateway.models()] == ["pictures", "other"]
    catalogue.change([])
    assert gateway.unready() == "there is no model in the repository"
    with pytest.raises(NotFound):
        await gateway.predict(request())


async def test_what_was_read_for_one_bundle_is_not_answered_by_another():
    """Its inputs may mean something else on the other's grid."""
    catalogue, engine = Catalogue([FIRST]), Answering()
    gateway = server(catalogue, engine)
    read = request(digest=FIRST.digest)
    catalogue.change([SECOND])
    with pytest.raises(Unavailable, match="replaced"):
        await gateway.predict(read)
    assert not engine.asked
    assert (await gateway.predict(request(digest=SECOND.digest))).model.digest == SECOND.digest


async def test_a_task_whose_bundle_has_left_is_not_dealt_out():
    """Nobody here could merge its shares; an engine that still has the bundle answers it whole."""
    catalogue, engine = Catalogue([FIRST]), Answering()
    gateway = server(Catalogue([FIRST]), Dealer(engine, catalogue, 2))
    catalogue.change([SECOND])
    assert (await gateway.predict(request(certify="best"))).model.digest == FIRST.digest
    assert engine.asked == [FIRST.digest]


def test_a_snapshot_stays_what_it_was():
    catalogue = Catalogue([FIRST])
    before, digests = catalogue.now, catalogue.digests
    assert dict(digests) == {"pictures/1": FIRST.digest}
    catalogue.change([SECOND])
    assert dict(digests) == {"pictures/1": SECOND.digest}
    assert (before.kept(FIRST.digest), before.kept(SECOND.digest)) == (FIRST, None)
    assert (catalogue.now.kept(FIRST.digest), catalogue.now.kept(SECOND.digest)) == (None, SECOND)
    assert (before.digests(), catalogue.now.digests()) == (
        {"pictures/1": FIRST.digest},
        {"pictures/1": SECOND.digest},
    )


def test_one_name_and_version_is_one_bundle():
    with pytest.raises(ValueError, match="pictures/1 is there twice"):
        Snapshot([FIRST, SECOND])


def test_without_a_version_the_highest_number_is_meant():
    versions = [model(version=each) for each in ("2", "10", "9")]
    assert Catalogue(versions).now.model("pictures").manifest.version == "10"
    with pytest.raises(NotFound, match="version 3 is not found; there is 2, 10, 9"):
        Catalogue(versions).now.model("pictures", "3")
    for wrong in ("v1.2.3", "1.0", "-1"):
        said = (
            rf"{wrong} is not found \(failed to get model version from specified version string '{wrong}'\); there is"
        )
        with pytest.raises(NotFound, match=said):
            Catalogue(versions).now.model("pictures", wrong)


@pytest.mark.parametrize("asked", [("x" * 10**6,), ("pictures", "9" * 10**6), ("pictures", "v" * 10**6)])
def test_an_answer_does_not_grow_with_the_name_that_was_asked_for(asked):
    with pytest.raises(NotFound) as refused:
        Catalogue([model()]).now.model(*asked)
    assert len(refused.value.message) < 400


async def test_an_engine_ends_what_it_began_and_begins_nothing_that_has_left(tmp_path):
    """Gateway and engine of one process read the same catalogue: what leaves it is refused by both from then on."""
    bundles = [write_half_space(tmp_path, name) for name in ("stays", "leaves")]
    runtimes = [Wrapped(bundle) for bundle in bundles]
    engine = Engine([Served(*each) for each in zip(bundles, runtimes, strict=True)], Scheduler(), 1, 200_000)
    gateway, apart = server(engine.catalogue, engine), server(Catalogue(bundles), engine)

    def ask(name):
        return PredictRequest(model=name, version=None, inputs=np.array([[150, 1, 2, 3]]), options=Options())

    try:
        runtimes[1].hold()
        flying = asyncio.ensure_future(gateway.predict(ask("leaves")))
        await held_in_draws(engine, runtimes[1])
        engine.catalogue.change([engine.catalogue.now.kept(bundles[0].digest)])
        for each in (gateway, apart):
            with pytest.raises(NotFound, match="'leaves' is not found"):
                await each.predict(ask("leaves"))
        assert dict(engine.catalogue.digests) == {"stays/1": bundles[0].digest}
        runtimes[1].go.set()
        assert (await flying).model.digest == bundles[1].digest
        assert (await gateway.predict(ask("stays"))).model.digest == bundles[0].digest
    finally:
        runtimes[1].go.set()
        engine.close()
