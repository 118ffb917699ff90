"""Two batches in flight on a device that does everything later than it is asked: order, waiting, and what is lost."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from serving.runtimes.device_batch import SOURCE, AsTheyAre
from serving.runtimes.device_line import DeviceLine
from serving.runtimes.device_noise import NoiseSource
from serving.runtimes.device_program import DeviceError
from serving.runtimes.noise_kernel import Draws
from serving.runtimes.runtime import DeviceLost
from tests.serving.runtimes import host_kernels
from tests.serving.runtimes.fake_driver import FakeDriver, FakeNetwork
from tests.serving.runtimes.laws import drawn, law_of

ROWS, COORDINATES, CLASSES = 16, 2_100, 9
LAW = law_of(40.0)
BATCH = ["copy", "add_noise", "network", "gather_results", "copy"]


class Bench:
    """A line on a fake device, and what its answers should be."""

    def __init__(self, seed=0, **traits):
        self.driver = FakeDriver(seed)
        self.network = FakeNetwork(self.driver, ROWS, COORDINATES, CLASSES, **traits)
        code = SOURCE.read_bytes()
        self.line = DeviceLine(self.driver, code, self.network, LAW, ROWS, COORDINATES, CLASSES)
        self.setup = self.driver.calls
        self.driver.calls = []

    def right(self, parts, results):
        votes, scores = self.network.answer(drawn(LAW, parts))
        assert np.array_equal(results[0], votes)
        assert np.array_equal(results[1], scores)

    def names(self):
        return [what for what, _, _ in self.driver.calls]


def parts_of(rng):
    """One to four requests in a batch, which may or may not fill it."""
    count = int(rng.integers(1, 5))
    return [
        Draws(
            rng.bytes(16),
            int(rng.integers(0, 2**40 - 10)),
            int(rng.integers(1, 5)),
            rng.integers(0, 256, COORDINATES).astype(np.int32),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("traits", [{}, {"capturable": False}, {"capturable": False, "waits": True}])
def test_answers_are_right_whenever_the_device_does_its_work(seed, traits):
    bench, rng = Bench(seed, **traits), np.random.default_rng(seed)
    flying = []
    for _ in range(12):
        parts = parts_of(rng)
        flying.append((parts, bench.line.submit(parts)))
        if len(flying) == 2:
            taken, pending = flying.pop(int(rng.integers(0, 2)))
            bench.right(taken, pending.result())
    bench.right(flying[0][0], flying[0][1].result())


def test_a_batch_is_one_copy_of_lattices_one_replay_and_one_wait_on_one_stream():
    bench = Bench()
    for _ in range(4):
        bench.driver.calls.clear()
        bench.line.submit(parts_of(np.random.default_rng(1))).result()
        assert bench.names() == ["copy", "replay", "wait"]
        assert len({stream for _, stream, _ in bench.driver.calls}) == 1
        assert list(bench.driver.calls[1][2]) == BATCH


def test_two_batches_are_in_flight_on_two_streams_before_either_is_waited_for():
    bench = Bench()
    first, second = (bench.line.submit(parts_of(np.random.default_rng(2))) for _ in range(2))
    assert bench.names() == ["copy", "replay"] * 2
    streams = [stream for _, stream, _ in bench.driver.calls]
    assert streams[0] == streams[1] != streams[2] == streams[3]
    first.result(), second.result()
    assert [call[:2] for call in bench.driver.calls[4:]] == [("wait", streams[0]), ("wait", streams[2])]


def test_what_is_not_captured_is_queued_in_the_same_order_with_one_wait():
    bench = Bench(capturable=False)
    bench.line.submit(parts_of(np.random.default_rng(1))).result()
    assert bench.names() == ["copy", *BATCH, "wait"]
    assert "replay" not in [what for what, _, _ in bench.setup]


def test_a_network_whose_input_must_be_complete_costs_one_wait_more():
    bench = Bench(capturable=False, waits=True)
    bench.line.submit(parts_of(np.random.default_rng(1))).result()
    assert bench.names() == ["copy", "copy", "add_noise", "wait", "network", "gather_results", "copy", "wait"]


def test_the_network_ran_before_it_was_captured():
    """Libraries set up what they need in their first run, which a capture would refuse."""
    bench = Bench()
    names = [what for what, stream, _ in bench.setup if stream < 0 or what == "network"]
    assert names[0] == "network", "by hand"
    assert names[1:6] == BATCH, "then in a capture"


def test_no_byte_belongs_to_two_buffers_and_lanes_share_none_that_is_written():
    bench = Bench()
    spans = sorted((each.address, each.address + each.bytes.size) for each in bench.driver.memories)
    assert all(stop <= start for (_, stop), (start, _) in pairwise(spans))
    one, other = bench.network.executions
    assert not set(one.values()) & set(other.values())


def test_results_leave_by_one_copy_of_eight_bytes_a_row():
    bench = Bench(capturable=False)
    bench.line.submit(parts_of(np.random.default_rng(1))).result()
    sizes = [detail[2] for what, _, detail in bench.driver.calls if what == "copy"]
    assert sizes[1:] == [ROWS * 32, ROWS * 8]


def test_a_third_batch_waits_until_a_lane_is_free_and_then_starts_by_itself():
    bench, rng = Bench(), np.random.default_rng(5)
    given = [parts_of(rng) for _ in range(3)]
    held = [bench.line.submit(parts) for parts in given]
    assert bench.names() == ["copy", "replay"] * 2
    bench.right(given[1], held[1].result())
    assert bench.names() == ["copy", "replay"] * 2 + ["wait"] + ["copy", "replay"]
    for parts, pending in zip(given, held, strict=True):
        bench.right(parts, pending.result())


@pytest.mark.parametrize("seed", range(5))
def test_results_may_be_asked_for_in_any_order_of_any_number(seed):
    """The last is asked for first: those before it are taken off the device, and kept for whoever asks."""
    bench, rng = Bench(seed), np.random.default_rng(seed)
    given = [parts_of(rng) for _ in range(9)]
    held = [bench.line.submit(parts) for parts in given]
    for place in [8, *rng.permutation(8)]:
        bench.right(given[place], held[place].result())
    assert bench.names().count("wait") == 9


def test_threads_that_each_keep_several_in_flight_never_wait_for_each_other_for_ever():
    bench, wrong = Bench(), []

    def ask(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(5):
                given = [parts_of(rng) for _ in range(3)]
                held = [bench.line.submit(parts) for parts in given]
                for place in rng.permutation(3):
                    bench.right(given[place], held[place].result())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong


def test_results_may_be_asked_for_twice():
    bench, parts = Bench(), parts_of(np.random.default_rng(3))
    pending = bench.line.submit(parts)
    bench.right(parts, pending.result())
    bench.right(parts, pending.result())
    assert bench.names().count("wait") == 1


def test_many_threads_get_their_own_answers():
    bench = Bench()
    wrong = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(10):
                parts = parts_of(rng)
                bench.right(parts, bench.line.submit(parts).result())
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong


@pytest.mark.parametrize("bad", ["too many", "none", "another shape"])
def test_what_does_not_fit_is_refused_and_costs_no_lane(bad):
    bench, lattice = Bench(), np.zeros(COORDINATES, np.int32)
    draws = {
        "too many": [Draws(bytes(16), 0, ROWS + 1, lattice)],
        "none": [],
        "another shape": [Draws(bytes(16), 0, 1, lattice[1:])],
    }[bad]
    for _ in range(3):
        with pytest.raises(ValueError, match="expected"):
            bench.line.submit(draws)
    assert bench.names() == []
    parts = parts_of(np.random.default_rng(1))
    bench.right(parts, bench.line.submit(parts).result())


@pytest.mark.parametrize("moment", ["copy", "replay", "wait"])
def test_a_device_that_failed_is_asked_nothing_more(moment):
    bench, parts = Bench(), parts_of(np.random.default_rng(1))
    held = bench.line.submit(parts) if moment == "wait" else None
    bench.driver.failing = moment
    with pytest.raises(DeviceLost, match="the device failed: .*ILLEGAL_ADDRESS at") as error:
        held.result() if held else bench.line.submit(parts)
    assert "\n" not in str(error.value)
    bench.driver.failing = None
    bench.driver.calls.clear()
    with pytest.raises(DeviceLost, match="failed before.*start this replica again"):
        bench.line.submit(parts)
    assert bench.names() == []


def test_all_that_were_submitted_hear_of_the_failure():
    bench, rng = Bench(), np.random.default_rng(1)
    held = [bench.line.submit(parts_of(rng)) for _ in range(4)]
    bench.driver.failing = "wait"
    for pending in held:
        with pytest.raises(DeviceLost, match="the device failed: .*ILLEGAL_ADDRESS"):
            pending.result()
    assert bench.names().count("wait") == 1


def test_a_result_that_was_taken_outlives_a_failure():
    bench, rng = Bench(), np.random.default_rng(1)
    given = [parts_of(rng) for _ in range(2)]
    held = [bench.line.submit(parts) for parts in given]
    bench.right(given[0], held[0].result())
    bench.driver.failing = "wait"
    with pytest.raises(DeviceLost):
        held[1].result()
    bench.right(given[0], held[0].result())


def test_what_the_network_would_be_given_can_be_seen():
    bench, rng = Bench(), np.random.default_rng(1)
    parts = parts_of(rng)
    rows = rng.integers(-9, 9, (3, COORDINATES)).astype(np.int32)
    held = bench.line.submit(parts)
    found = bench.line.inputs([*parts, AsTheyAre(rows)])
    assert np.array_equal(found, np.concatenate([drawn(LAW, parts), rows]))
    bench.right(parts, held.result())


def test_what_is_no_vote_is_a_failure_of_the_device():
    bench, parts = Bench(), parts_of(np.random.default_rng(1))
    bench.network.answer = lambda lattice: (np.full(ROWS, CLASSES + 1), np.zeros(ROWS, np.float32))
    with pytest.raises(DeviceLost, match="a vote is outside 0 to 9"):
        bench.line.submit(parts).result()


def test_a_device_whose_noise_differs_is_refused_before_anything_is_served(monkeypatch):
    launch = host_kernels.launch

    def off_by_one(element, kernel, grid, *arguments):
        launch(element, kernel, grid, *arguments)
        if kernel == "add_noise":  # one value of a batch
            host_kernels.ctypes.c_int.from_address(arguments[-1] + 4 * 1_000).value += 1

    monkeypatch.setattr(host_kernels, "launch", off_by_one)
    with pytest.raises(DeviceError, match=r"differs from certify.smoothing.lattice_gaussian.*--provider cpu"):
        Bench()


@pytest.mark.parametrize("coordinates", [40, 784, 150_528, 2_000_000])
def test_a_million_values_are_compared_before_anything_is_served(coordinates):
    driver = FakeDriver()
    NoiseSource(driver, "add_noise", LAW, coordinates, np.dtype(np.int32)).prove()
    grids = [detail[0] for what, _, detail in driver.calls if what == "add_noise"]
    assert sum(rows - 1 for _, rows in grids) * coordinates >= 1_000_000
    assert max(rows for _, rows in grids) <= 65_535


@pytest.mark.parametrize(("kind", "element"), [(np.int16, 1), (np.float16, 2)])
def test_smaller_inputs_of_a_network_give_the_same_answers(kind, element):
    driver = FakeDriver(0, element)
    network = FakeNetwork(driver, ROWS, COORDINATES, CLASSES, kind)
    line = DeviceLine(driver, SOURCE.read_bytes(), network, LAW, ROWS, COORDINATES, CLASSES)
    parts = parts_of(np.random.default_rng(1))
    votes, scores = line.submit(parts).result()
    expected = network.answer(drawn(LAW, parts))
    assert np.array_equal(votes, expected[0])
    assert np.array_equal(scores, expected[1])


def test_a_line_that_is_closed_ends_what_it_took_and_takes_nothing_more():
    bench, rng = Bench(), np.random.default_rng(1)
    given = [parts_of(rng) for _ in range(4)]
    held = [bench.line.submit(parts) for parts in given]
    bench.line.close()
    assert bench.names().count("wait") == 4
    with pytest.raises(DeviceError, match="was closed"):
        bench.line.submit(given[0])
    for parts, pending in zip(given, held, strict=True):
        bench.right(parts, pending.result())
    bench.line.close()


def test_a_capture_that_leaves_something_out_is_found_before_anything_is_served(monkeypatch):
    capture = FakeDriver.capture

    def forgetful(driver, work):
        kept = capture(driver, work)
        kept.waiting = type(kept.waiting)(each for each in kept.waiting if each[0] != "add_noise")
        return kept

    monkeypatch.setattr(FakeDriver, "capture", forgetful)
    with pytest.raises(DeviceError, match="other rows than the law draws"):
        Bench()
