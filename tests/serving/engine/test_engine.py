from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from certify.claims.procedures import RunningProcedure
from serving.config import Limits
from serving.engine.engine import Engine, Load, Served
from serving.engine.job import Job
from serving.engine.scheduler import Scheduler
from serving.engine.workload import Workload
from serving.errors import DeadlinePassed, Internal, NotFound, NotOffered, Overloaded, Unavailable
from serving.gateway.gateway import Gateway
from serving.messages import Answer, Options, PredictRequest
from serving.models.catalogue import Catalogue
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.half_space import write_half_space
from tests.serving.handed_clock import until
from tests.serving.wrapped import Wrapped, held_in_draws

SECRET = b"s" * 32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture
def served(bundle):
    runtime = Wrapped(bundle)
    engine = Engine([Served(bundle, runtime)], Scheduler(), 1, max_pending_draws=200_000, clock=runtime.clock)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    yield gateway, engine, runtime
    runtime.go.set()
    runtime.go_base.set()
    engine.close()


def ask(gateway, *rows, **options):
    request = PredictRequest(
        model="half-space", version=None, inputs=np.array(rows, dtype=np.int64), options=Options(**options)
    )
    return gateway.predict(request)


def essence(prediction):
    return (prediction.certificate, prediction.ood, prediction.mixture, prediction.draws, prediction.lost_draws)


async def test_rows_are_answered_in_order_and_equal_rows_alike(served):
    answer = await ask(served[0], [150, 1, 2, 3], [90, 1, 2, 3], [150, 1, 2, 3])
    assert [row.class_index for row in answer.predictions] == [1, 0, 1]
    assert essence(answer.predictions[0]) == essence(answer.predictions[2])
    assert answer.predictions[0].certificate.status == "certified"


@pytest.mark.parametrize("mode", ["target", "best", "precision", "fixed", "off"])
async def test_an_answer_is_the_same_alone_and_in_a_crowd(served, mode):
    gateway = served[0]
    asked = {"certify": mode} | ({"radius_tolerance": 5.0} if mode == "precision" else {})
    alone = await ask(gateway, [140, 7, 7, 7], **asked)
    rng = np.random.default_rng(0)
    crowd = [ask(gateway, rng.integers(0, 255, 4)) for _ in range(16)]
    together = (await asyncio.gather(ask(gateway, [140, 7, 7, 7], **asked), *crowd))[0]
    assert essence(alone.predictions[0]) == essence(together.predictions[0])


SMALL = (5e-324, 1e-310, 1e-200, 5e-152, 1e-151, 1e-100, 1e-9)


@pytest.mark.parametrize(
    "extreme",
    [
        *({"certify": "precision", "radius_tolerance": size} for size in (*SMALL, 1e300)),
        *({"certify": "target", "target_radius": size} for size in (0.0, *SMALL, 128.0)),
        *({"certify": mode, "alpha": alpha} for mode in ("target", "best") for alpha in (1e-12, 0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [128, 255])
async def test_no_number_that_a_request_may_name_breaks_the_engine_for_others(served, extreme, first):
    """A forecast that overflows on one request's number would end the thread's turn, and with it all that is in flight."""
    asked = ask(served[0], [first, 1, 2, 3], max_draws=512, **extreme)
    beside = ask(served[0], [150, 1, 2, 3], certify="best", max_draws=512)
    for answer in await asyncio.gather(asked, beside):
        assert answer.predictions[0].certificate.status in ("certified", "undecided", "refuted", "abstained")


@pytest.mark.parametrize("where", ["receive", "expected_remaining", "conclude"])
async def test_a_defect_that_shows_in_one_request_fails_no_other(served, monkeypatch, where):
    """In whatever is asked of its procedure: here one that works until it has seen some draws."""
    right = getattr(RunningProcedure, where)

    def wrong(self, counts):
        if self.procedure.name == "precision" and counts.draws > 100:
            raise OverflowError("Numerical result out of range")
        return right(self, counts)

    monkeypatch.setattr(RunningProcedure, where, wrong)
    options = {"certify": "best", "max_draws": 2_000}
    beside = [asyncio.ensure_future(ask(served[0], [150, 1, 2, each], **options)) for each in range(4)]
    with pytest.raises(Internal, match="row 0: an answer could not be composed"):
        await ask(served[0], [150, 1, 2, 3], certify="precision", radius_tolerance=1.0, max_draws=2_000)
    assert {answer.predictions[0].draws for answer in await asyncio.gather(*beside)} == {2_000}
    assert served[1].healthy()


async def test_one_batch_holds_draws_of_three_requests(served, bundle):
    """Three inputs that differ in a coordinate which the noise can hardly bridge: seen in one batch of the device."""
    gateway, engine, runtime = served
    runtime.hold()
    first = asyncio.ensure_future(ask(gateway, [60, 60, 60, 60], certify="off"))
    await held_in_draws(engine, runtime)
    inputs = [[250, 0, 0, 0], [10, 0, 0, 0], [250, 250, 250, 250]]
    waiting = [asyncio.ensure_future(ask(gateway, row, certify="off")) for row in inputs]
    await held_in_draws(engine, runtime, requests=4)
    runtime.go.set()
    await asyncio.gather(first, *waiting)
    found = set()
    for batch in runtime.batches[1:]:
        keys = {(row[0] > 130, row[1] > 130) for row in batch.tolist() if any(row)}
        found = max(found, keys, key=len)
    assert len(found) == 3


async def cut(gateway, engine, runtime, row, deadline_ms):
    """The answer at its deadline to a row that would need far more draws, of which each batch takes 1/32 s."""
    runtime.takes = 1 / 32
    runtime.hold()
    asking = asyncio.ensure_future(ask(gateway, row, certify="best", max_draws=100_000, deadline_ms=deadline_ms))
    await held_in_draws(engine, runtime)
    runtime.go.set()
    answer = await asking
    runtime.takes = 0.0
    return answer.predictions[0]


async def test_a_deadline_after_the_base_pass_gives_the_best_proven_answer(served, bundle):
    row = await cut(*served, [128, 1, 1, 1], deadline_ms=1_000)
    assert row.draws // bundle.manifest.batch_rows in (31, 32)  # the last batch ends with the deadline
    assert row.certificate.status in ("certified", "undecided")


async def test_a_cut_certificate_is_a_function_of_its_draws(served):
    row = await cut(*served, [145, 9, 9, 9], deadline_ms=500)
    again = (await ask(served[0], [145, 9, 9, 9], certify="best", max_draws=row.draws)).predictions[0]
    assert essence(row) == essence(again)


async def test_a_deadline_before_the_base_pass_is_an_error(served):
    gateway, engine, runtime = served
    runtime.go_base.clear()
    rows = [[150, 1, 1, row] for row in range(2)]  # one for each thread
    first = asyncio.ensure_future(ask(gateway, *rows, certify="off", outputs=("probabilities",)))
    await until(lambda: engine.load().running == 2)
    second = asyncio.ensure_future(ask(gateway, [151, 1, 1, 1], deadline_ms=20))
    await until(lambda: engine.load().requests == 2)
    runtime.clock.advance(0.02)
    with pytest.raises(DeadlinePassed, match="deadline"):
        await second
    runtime.go_base.set()
    assert [row.class_index for row in (await first).predictions] == [1] * 2


async def test_others_are_answered_while_what_a_deadline_has_ended_is_composed(served, monkeypatch):
    """Many rows take long to compose, and nobody waits for the engine's lock meanwhile."""
    gateway, engine, runtime = served
    composing, go, right = threading.Event(), threading.Event(), Job.answer

    def slow(self, receipt=True):
        if self.max_draws == 50_000:
            composing.set()
            assert go.wait(60)
        return right(self, receipt)

    monkeypatch.setattr(Job, "answer", slow)
    runtime.hold()
    rows = [[150, 1, 2, row] for row in range(3)]
    many = asyncio.ensure_future(ask(gateway, *rows, certify="best", max_draws=50_000, deadline_ms=100))
    await until(
        lambda: engine.load().running == 1 and runtime.predicted == 3 and runtime.begun
    )  # drawing alone is left
    runtime.clock.advance(0.1)
    await until(composing.is_set)
    beside = await ask(gateway, [90, 1, 2, 3], certify="off", outputs=("probabilities",))
    assert beside.predictions[0].class_index == 0
    go.set()
    runtime.go.set()
    assert [row.class_index for row in (await many).predictions] == [1] * 3


async def test_the_time_that_composing_takes_is_taken_from_a_request_of_many_rows(bundle, monkeypatch):
    monkeypatch.setattr("serving.engine.pace._COMPOSING_S", 0.001)
    runtime = Wrapped(bundle)
    engine = Engine([Served(bundle, runtime)], Scheduler(40), 1, max_pending_draws=10**8, clock=runtime.clock)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    runtime.hold()
    rows = [[150, 1, 2, row] for row in range(40)]
    many = asyncio.ensure_future(ask(gateway, *rows, certify="best", max_draws=50_000, deadline_ms=1_000))
    await until(
        lambda: engine.load().running == 1 and runtime.predicted == 1 and runtime.begun
    )  # drawing alone is left
    runtime.clock.advance(0.955)
    assert (engine.load().requests, many.done()) == (1, False)
    runtime.clock.advance(0.01)
    assert len((await many).predictions) == 40
    runtime.go.set()
    engine.close()


@pytest.mark.parametrize(("rows", "beside"), [(32, False), (33, True)])
async def test_many_rows_are_made_ready_beside_the_loop(served, monkeypatch, rows, beside):
    """A thousand of them take tens of milliseconds, and a health check would wait."""
    threads, right = [], Workload.prepare

    def prepare(self, task, draws=None):
        threads.append(threading.get_ident())
        return right(self, task, draws)

    monkeypatch.setattr(Workload, "prepare", prepare)
    answer = await ask(served[0], *[[150, 1, 2, row] for row in range(rows)], certify="off")
    assert len(answer.predictions) == rows
    assert (threads[0] != threading.get_ident()) == beside


async def test_who_leaves_while_many_rows_are_taken_in_leaves_nothing_behind(served, monkeypatch):
    gateway, engine, _ = served
    entering, go, right, admitted = threading.Event(), threading.Event(), Workload.prepare, []

    def prepare(self, task, draws=None):
        entering.set()
        assert go.wait(60)
        jobs = right(self, task, draws)
        admitted.append(len(jobs))
        return jobs

    monkeypatch.setattr(Workload, "prepare", prepare)
    asking = asyncio.ensure_future(ask(gateway, *[[150, 1, 2, row] for row in range(40)], certify="best"))
    await until(entering.is_set)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    monkeypatch.setattr(Workload, "prepare", right)
    go.set()
    await until(lambda: admitted == [40] and engine.load().requests == 0)
    answer = await ask(gateway, [90, 1, 2, 3], certify="off")
    assert answer.predictions[0].class_index == 0
    await until(lambda: engine.load() == Load(requests=0, owed=0, running=0))


async def test_no_loop_waits_for_the_lock(served):
    """Whoever holds it may have been put aside by the system. Here it is the loop's own thread: it would wait for ever."""
    gateway, engine, _ = served
    with engine._lock:
        asked = asyncio.ensure_future(ask(gateway, [150, 1, 2, 3]))
        left = asyncio.ensure_future(ask(gateway, [128, 1, 2, 3], certify="best", max_draws=100_000))
        refused = asyncio.ensure_future(ask(gateway, [150, 1, 2, 4], certify="off", deadline_ms=1, receipt=True))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left, refused])
    assert (await asked).predictions[0].certificate.status == "certified"
    with pytest.raises(NotOffered):
        await refused
    await until(lambda: engine.load() == Load(requests=0, owed=0, running=0))


async def test_a_request_that_cannot_be_let_in_is_our_error_and_nobody_else_s(served, monkeypatch, caplog):
    right = Workload.admit

    def admit(self, jobs, *others):
        if len(jobs) == 2 or len(jobs) > 32:
            raise ZeroDivisionError
        return right(self, jobs, *others)

    monkeypatch.setattr(Workload, "admit", admit)
    for rows in (2, 33):
        with pytest.raises(Internal, match="the engine failed"):
            await ask(served[0], *[[150, 1, 2, row] for row in range(rows)], certify="off")
    assert (await ask(served[0], [150, 1, 2, 3])).predictions[0].certificate.status == "certified"
    assert caplog.text.count("a request could not be let in") == 2


async def test_a_device_that_hangs_delays_no_answer_and_is_known(served):
    """No thread that touches the device comes back; deadlines are kept, by draws that were counted or by an error."""
    gateway, engine, runtime = served
    runtime.hold()
    cut = asyncio.ensure_future(ask(gateway, [150, 1, 1, 1], deadline_ms=400))
    await held_in_draws(engine, runtime)
    runtime.go_base.clear()
    late = [asyncio.ensure_future(ask(gateway, [150, 1, 1, row], deadline_ms=200)) for row in range(4)]
    await until(lambda: engine.load() == Load(requests=5, owed=engine.load().owed, running=2))
    runtime.clock.advance(0.2)
    found = await asyncio.gather(*late, return_exceptions=True)
    assert [type(each) for each in found] == [DeadlinePassed] * 4
    runtime.clock.advance(0.2)
    (row,) = (await cut).predictions
    assert (row.draws, row.lost_draws, row.certificate.status) == (0, 0, "undecided")
    runtime.clock.advance(59.0)
    with engine._lock:  # whoever asks how it is waits for no one
        assert await asyncio.wait_for(asyncio.to_thread(engine.healthy), 10)
    runtime.clock.advance(1.0)
    assert not engine.healthy()


async def test_a_plain_prediction_does_not_wait_for_noisy_batches(served):
    gateway, engine, runtime = served
    runtime.hold()
    first = asyncio.ensure_future(ask(gateway, [150, 1, 1, 1], deadline_ms=300))
    await held_in_draws(engine, runtime)
    plain = await ask(gateway, [151, 1, 1, 1], certify="off", outputs=("probabilities",))
    assert (plain.predictions[0].class_index, plain.predictions[0].draws) == (1, 0)
    runtime.clock.advance(0.3)
    cut = (await first).predictions[0]  # at its deadline, though its draws never came
    assert (cut.draws, cut.certificate.status) == (0, "undecided")
    runtime.go.set()


async def test_cancelled_work_leaves_the_engine(served):
    gateway, engine, runtime = served
    runtime.hold()
    task = asyncio.ensure_future(ask(gateway, [128, 1, 1, 1], certify="best", max_draws=100_000, deadline_ms=60_000))
    await held_in_draws(engine, runtime)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.load() == Load(requests=0, owed=0, running=1)
    runtime.go.set()
    await until(lambda: engine.load().running == 0)
    assert (await ask(gateway, [200, 1, 1, 1], certify="off")).predictions[0].draws == 32
    assert runtime.begun == 2


async def test_a_batch_that_fails_once_is_drawn_again_under_the_same_indices(served):
    gateway, _, runtime = served
    whole = (await ask(gateway, [150, 2, 2, 2])).predictions[0]
    runtime.fail_noisy = 1
    again = (await ask(gateway, [150, 2, 2, 2])).predictions[0]
    assert essence(whole) == essence(again)


async def test_a_batch_that_fails_again_counts_against_every_claim(served):
    gateway, _, runtime = served
    whole = (await ask(gateway, [200, 2, 2, 2], certify="best", max_draws=640)).predictions[0]
    runtime.fail_noisy = 2
    gaps = (await ask(gateway, [200, 2, 2, 2], certify="best", max_draws=640)).predictions[0]
    assert gaps.lost_draws == 128
    assert gaps.ood is None
    assert gaps.certificate.radius < whole.certificate.radius


@pytest.mark.parametrize(
    "spoil",
    [
        lambda votes, scores: (votes[:1], scores[:1]),
        lambda votes, scores: (votes + 7, scores),
        lambda votes, scores: (votes - 2, scores),
        lambda votes, scores: (votes.astype(float), scores),
        lambda votes, scores: (votes, scores[:-1]),
    ],
    ids=["short", "beyond", "negative", "floats", "scores"],
)
async def test_what_is_no_vote_for_every_row_is_lost_and_nothing_is_refuted(served, spoil):
    gateway, _, runtime = served
    runtime.spoil = spoil
    row = (await ask(gateway, [200, 5, 5, 5], max_draws=640)).predictions[0]
    assert (row.lost_draws, row.certificate.status, row.ood) == (640, "undecided", None)
    runtime.spoil = lambda votes, scores: (votes, scores)
    assert (await ask(gateway, [200, 5, 5, 5], max_draws=640)).predictions[0].certificate.status == "certified"


async def test_a_score_that_is_no_number_is_the_largest(served):
    gateway, _, runtime = served
    runtime.spoil = lambda votes, scores: (votes, scores * np.float32(np.nan))
    row = (await ask(gateway, [200, 6, 6, 6])).predictions[0]
    assert (row.ood.score, row.ood.in_distribution, row.lost_draws) == (np.inf, False, 0)


async def test_an_answer_that_cannot_be_composed_ends_its_request_alone(served):
    gateway, _, runtime = served
    honest = runtime.base
    runtime.base = lambda lattice: honest(lattice) * 7
    with pytest.raises(Internal, match="composed"):
        await ask(gateway, [150, 8, 8, 8], [151, 8, 8, 8])
    runtime.base = honest
    assert (await ask(gateway, [150, 8, 8, 8])).predictions[0].certificate.status == "certified"


async def test_a_base_pass_that_fails_twice_is_our_error(served):
    gateway, _, runtime = served
    runtime.fail_base = 1
    assert (await ask(gateway, [150, 3, 3, 3])).predictions[0].class_index == 1
    runtime.fail_base = 2
    with pytest.raises(Internal):
        await ask(gateway, [150, 3, 3, 4])


async def test_overload_is_refused_with_a_hint(bundle):
    runtime = Wrapped(bundle)
    engine = Engine([Served(bundle, runtime)], Scheduler(), 1, max_pending_draws=20_000, clock=runtime.clock)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    runtime.hold()
    many = []
    for i in range(45):
        rows = [[128, i, j, 1] for j in range(2)]
        many.append(asyncio.ensure_future(ask(gateway, *rows, certify="best", max_draws=5_000, deadline_ms=60_000)))
    await asyncio.wait(many, timeout=60, return_when=asyncio.FIRST_EXCEPTION)  # nothing is drawn, so it is a refusal
    refused = [task.exception() for task in many if task.done()]
    assert refused
    assert all(isinstance(each, Overloaded) and 1 <= each.retry_after_s <= 60 for each in refused)
    plain = ask(gateway, [200, 1, 1, 1], certify="off", outputs=("probabilities",))
    assert (await plain).predictions[0].class_index == 1  # draws are owed, not this
    with pytest.raises(Overloaded, match="300[0-9][0-9] that this request needs at least"):
        await ask(gateway, *[[128, 99, j, 1] for j in range(3)], certify="fixed", draws=10_000)
    runtime.go.set()
    ended = await asyncio.gather(*many, return_exceptions=True)
    await asyncio.to_thread(engine.close)
    assert all(isinstance(each, Answer | Overloaded) for each in ended)
    answers = [each.predictions[0] for each in ended if isinstance(each, Answer)]
    granted = [row.granted_draws or 5_000 for row in answers]
    assert granted == sorted(granted, reverse=True)
    assert granted[:3] == [5_000, 4_864, 4_736]
    assert granted[-1] == 256
    assert [row.draws for row in answers] == granted


async def test_close_refuses_what_is_in_flight(served):
    gateway, engine, runtime = served
    runtime.hold()
    task = asyncio.ensure_future(ask(gateway, [128, 1, 1, 1], certify="best", max_draws=100_000, deadline_ms=60_000))
    await held_in_draws(engine, runtime)
    closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
    with pytest.raises(Unavailable, match="stopping"):
        await task
    with pytest.raises(Unavailable):
        await ask(gateway, [128, 1, 1, 1])
    runtime.go.set()
    await closing


async def test_an_unknown_model_is_not_found(served):
    gateway = served[0]
    with pytest.raises(NotFound, match="Request for unknown model: 'x' is not found"):
        gateway.model("x")
    with pytest.raises(NotFound, match="there is 1"):
        gateway.model("half-space", "7")


async def test_the_outputs_asked_for_are_made_and_no_more(served):
    gateway = served[0]
    plain = (await ask(gateway, [150, 4, 4, 4], outputs=("probabilities",))).predictions[0]
    assert (plain.certificate, plain.ood, plain.mixture, plain.draws) == (None, None, None, 0)
    score = (await ask(gateway, [150, 4, 4, 4], outputs=("ood",))).predictions[0]
    assert (score.draws, score.ood is not None) == (32, True)
    certified = (await ask(gateway, [150, 4, 4, 4], outputs=("certificate",))).predictions[0]
    assert (certified.ood, certified.mixture) == (None, None)


def test_two_workers_give_the_answers_of_one(bundle):
    async def answers(threads):
        engine = Engine([Served(bundle, OnnxRuntime(bundle))], Scheduler(), threads, 10**7)
        gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
        rng = np.random.default_rng(4)
        rows = rng.integers(100, 160, (24, 4))
        found = await asyncio.gather(*(ask(gateway, row, certify="best", max_draws=2_000) for row in rows))
        await asyncio.to_thread(engine.close)
        return [essence(answer.predictions[0]) for answer in found]

    assert asyncio.run(answers(1)) == asyncio.run(answers(2))


async def test_a_worker_that_had_nothing_to_do_helps_once_more_draws_are_wanted(bundle):
    """One batch is expected to decide, so the second worker rests; the boundary is near, so that many more follow."""
    runtime, at_work, most = Wrapped(bundle), [], []
    together = threading.Event()

    def draw(votes, scores):
        at_work.append(None)
        most.append(len(at_work))
        if len(at_work) == 2:
            together.set()
        if len(most) > 1:
            assert together.wait(60)
        at_work.pop()
        return votes, scores

    runtime.spoil = draw
    engine = Engine([Served(bundle, runtime)], Scheduler(), 2, 10**7)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    answer = await ask(gateway, [130, 1, 2, 3], certify="target", target_radius=1.0, max_draws=4_000)
    await asyncio.to_thread(engine.close)
    assert answer.predictions[0].draws > 8 * bundle.manifest.batch_rows
    assert most[0] == 1
    assert max(most) == 2


class Queued(Wrapped):
    """A device that works while the host does something else: what is submitted waits until its results are asked for."""

    ahead = 2

    def __init__(self, bundle):
        super().__init__(bundle)
        self.flying = self.most = 0

    def submit(self, draws):
        self.flying += 1
        self.most = max(self.most, self.flying)
        return Asked(self, draws)


class Asked:
    def __init__(self, device, draws):
        self.device, self.draws = device, draws

    def result(self):
        self.device.flying -= 1
        return self.device.noisy(self.draws)


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_worker_keeps_two_batches_in_flight_where_the_runtime_asks_for_it(bundle, fails):
    found = []
    for runtime in (Wrapped(bundle), Queued(bundle)):
        engine = Engine([Served(bundle, runtime)], Scheduler(), 1, 10**6)
        gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
        runtime.fail_noisy = fails
        asked = [ask(gateway, [140, 1, 2, row], certify="best", max_draws=2_000) for row in range(3)]
        found.append([essence(answer.predictions[0]) for answer in await asyncio.gather(*asked)])
        await asyncio.to_thread(engine.close)
    assert found[0] == found[1]
    assert (runtime.most, runtime.flying) == (2, 0)


async def test_what_is_in_flight_when_the_engine_closes_is_waited_for(bundle):
    runtime = Queued(bundle)
    engine = Engine([Served(bundle, runtime)], Scheduler(), 1, 10**6, clock=runtime.clock)
    gateway = Gateway(Catalogue([bundle]), engine, SECRET, Limits())
    runtime.hold()
    task = asyncio.ensure_future(ask(gateway, [128, 1, 1, 1], certify="best", max_draws=100_000, deadline_ms=60_000))
    await until(lambda: runtime.flying == 1 and runtime.begun)  # one is asked for, one waits behind it
    closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
    with pytest.raises(Unavailable, match="stopping"):
        await task
    runtime.go.set()
    await closing
    assert runtime.flying == 0
    assert engine.load() == Load(requests=0, owed=0, running=0)
