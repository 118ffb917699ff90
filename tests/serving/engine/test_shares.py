"""A stream of draws counted in any shares is answered as if it had been counted in one."""

from __future__ import annotations

import itertools
import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.claims.procedures import SLICE
from serving.engine.job import Job, SliceResult
from serving.engine.shares import WORTH, MixedRuntimes, ShareJob, merge, split
from serving.messages import PARTS, Reply, Task
from tests.certify.gaussian import asked
from tests.half_space import write_half_space

BASE = np.array([0.25, 0.75], dtype=np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


def task_of(mode="best", max_draws=10_000, target_radius=8.0, **changes):
    task = Task(
        model="half-space",
        version="1",
        digest="sha256:d",
        rows=np.array([[150, 1, 2, 3]], dtype=np.int32),
        keys=(b"k" * 16,),
        procedure=asked(mode, target_radius, draws=max_draws),
        max_draws=max_draws,
        alpha=0.01,
        timeout_s=1.0,
        parts=frozenset(PARTS),
    )
    return replace(task, **changes)


@given(st.integers(1, 200_000), st.integers(1, 40), st.sampled_from(["best", "fixed"]))
def test_every_draw_is_counted_by_one_engine_in_whole_slices(max_draws, engines, mode):
    ranges = split(task_of(mode, max_draws), engines)
    assert list(itertools.chain(*ranges)) == list(range(max_draws))
    assert all(draws.start % SLICE == 0 for draws in ranges)
    assert len(ranges) == max(1, min(engines, max_draws // WORTH))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 2 * SLICE


@pytest.mark.parametrize(
    "task",
    [task_of(mode) for mode in ("target", "precision", "off")]
    + [task_of(receipt=True), task_of(max_draws=2 * WORTH - 1)],
    ids=["target", "precision", "off", "receipt", "few"],
)
def test_what_stops_early_is_signed_or_is_small_stays_whole(task):
    assert split(task, 8) == (range(task.max_draws),)


@pytest.mark.parametrize("mode", ["best", "target", "share"])
def test_draws_that_wait_for_others_before_them_are_not_expected_again(bundle, mode):
    task = task_of("best" if mode == "share" else mode, 640, target_radius=16.0, alpha=0.001)
    job = ShareJob(bundle, task, 0, range(640)) if mode == "share" else Job(bundle, task, 0)
    expected = job.forecast()[0]
    assert expected == (640 if mode != "target" else 152)
    job.receive(SLICE, SliceResult(SLICE, np.ones(SLICE, dtype=np.int64), np.ones(SLICE, dtype=np.float32)))
    assert job.forecast()[0] == expected - SLICE


@pytest.mark.parametrize(
    ("mode", "draws", "wanted"), [("best", 640, 640), ("target", 640, 64), ("target", 20, 20), ("off", 640, 32)]
)
def test_before_any_draw_is_seen_as_few_are_wanted_as_may_be_enough(bundle, mode, draws, wanted):
    task = task_of(mode, draws, target_radius=16.0, alpha=0.001)
    assert Job(bundle, task, 0).forecast()[1] == wanted
    assert ShareJob(bundle, task, 0, range(320, 640)).forecast()[1] == 320


def test_a_slice_that_comes_back_before_the_first_makes_no_more_wanted(bundle):
    job = Job(bundle, task_of("target", 640, target_radius=16.0, alpha=0.001), 0)
    job.receive_base(BASE)
    first = job.forecast()[1]
    job.receive(SLICE, SliceResult(SLICE, np.ones(SLICE, dtype=np.int64), np.ones(SLICE, dtype=np.float32)))
    assert (first, job.forecast()[1]) == (2 * SLICE, SLICE)


class Stream:
    """Votes and scores of every draw: misses are rare or frequent, some scores are no numbers, some slices are lost.

    The slice before the first is of the stream that gives the score of fixed draws.
    """

    def __init__(self, seed, draws, lost):
        rng = np.random.default_rng(seed)
        self.draws, self.lost = draws, lost
        self.votes = (rng.random(draws) > rng.choice([0.0, 0.02, 0.4])).astype(np.int64) + (rng.random(draws) > 0.99)
        self.scores = rng.normal(160, 8, draws).astype(np.float32)
        self.scores[rng.random(draws) > 0.999] = np.nan
        self.own = SliceResult(SLICE, np.zeros(SLICE, dtype=np.int64), np.arange(SLICE, dtype=np.float32))

    def slices(self, draws):
        if draws.start < 0:
            yield draws.start, SliceResult(SLICE, None, None) if -1 in self.lost else self.own
        for start in range(max(0, draws.start), draws.stop, SLICE):
            stop = min(start + SLICE, self.draws)
            gone = start // SLICE in self.lost
            yield (
                start,
                SliceResult(
                    stop - start, None if gone else self.votes[start:stop], None if gone else self.scores[start:stop]
                ),
            )


def counted_by_one(bundle, task, stream, draws):
    job = Job(bundle, task, 0)
    job.receive_base(BASE)
    for start, result in stream.slices(range(job.first, draws)):
        job.receive(start, result)
    return job.answer()


def counted_in_shares(bundle, task, stream, ranges, stops, shuffled):
    """Each range by an engine that stops at an index of its own, its slices in any order; replies cross processes."""
    replies = []
    for draws, stop in zip(ranges, stops, strict=True):
        job = ShareJob(bundle, task, 0, draws)
        if not job.has_base:
            job.receive_base(BASE)
        slices = list(stream.slices(range(job.first, min(draws.stop, stop))))
        shuffled.shuffle(slices)
        for start, result in slices:
            job.receive(start, result)
        assert job.done == (stop >= draws.stop)
        replies.append(reply_of(bundle, job.answer()))
    task = replace(task, digest=bundle.digest)
    return merge(bundle, task, ranges, pickle.loads(pickle.dumps(replies))).rows[0]


def reply_of(bundle, share, **changes):
    return replace(
        Reply(rows=(share,), queue_s=0.0, compute_s=0.0, digest=bundle.digest, runtime="r"),
        **changes,
    )


def ranges_of(draws, cuts):
    edges = [0, *sorted({cut * SLICE for cut in cuts if cut * SLICE < draws}), draws]
    return [range(*pair) for pair in itertools.pairwise(edges)]


def claims(answer):
    """All that an answer holds, exactly."""
    return (
        *(answer.certificate, answer.ood, answer.mixture, answer.class_index, answer.probabilities.tobytes()),
        *(answer.draws, answer.lost_draws, answer.granted_draws, answer.alpha, answer.alpha_split, answer.receipt),
    )


streams = st.builds(
    Stream, st.integers(0, 2**32 - 1), st.integers(1, 900), st.frozensets(st.integers(-1, 28), max_size=2)
)
cuts = st.lists(st.integers(1, 28), max_size=4)
modes = st.sampled_from(["best", "fixed", "fixed with a score", "target", "precision"])


def any_task(mode, draws):
    mode, scored, _ = mode.partition(" with")
    return task_of(mode, draws, score_keys=(b"s" * 16,) if scored else ())


@settings(deadline=None, max_examples=150)
@given(streams, modes, cuts, st.randoms(use_true_random=False))
def test_any_shares_give_the_answer_of_one_engine(bundle, stream, mode, cuts, shuffled):
    task, ranges = any_task(mode, stream.draws), ranges_of(stream.draws, cuts)
    stops = [draws.stop for draws in ranges]
    whole = counted_by_one(bundle, task, stream, stream.draws)
    assert claims(counted_in_shares(bundle, task, stream, ranges, stops, shuffled)) == claims(whole)


@settings(deadline=None, max_examples=150)
@given(streams, modes, cuts, st.lists(st.integers(0, 28), min_size=5, max_size=5), st.randoms(use_true_random=False))
def test_a_gap_ends_what_is_counted(bundle, stream, mode, cuts, stopped, shuffled):
    task, ranges = any_task(mode, stream.draws), ranges_of(stream.draws, cuts)
    stops = [max(draws.start, stop * SLICE) for draws, stop in zip(ranges, stopped, strict=False)]
    gaps = [stop for draws, stop in zip(ranges, stops, strict=True) if stop < draws.stop]
    prefix = counted_by_one(bundle, task, stream, min(gaps, default=stream.draws))
    assert claims(counted_in_shares(bundle, task, stream, ranges, stops, shuffled)) == claims(prefix)


def test_fixed_claims_nothing_with_a_gap_and_best_concludes_on_the_prefix(bundle):
    stream, shuffled = Stream(0, 2_000, frozenset()), random.Random(0)
    stream.votes[:] = 1
    ranges = [range(0, 992), range(992, 2_000)]
    for stops, counted, fixed in [((960, 2_000), 960, False), ((992, 992), 992, False), ((992, 2_000), 2_000, True)]:
        for mode in ("best", "fixed"):
            answer = counted_in_shares(bundle, task_of(mode, 2_000), stream, ranges, stops, shuffled)
            assert answer.draws == counted
            assert (answer.certificate.bound is not None) == (mode == "best" or fixed)


@pytest.mark.parametrize("share", [0, 1, 2])
def test_overload_of_one_engine_leaves_what_it_would_have_left_of_the_whole(bundle, share):
    stream, task = Stream(3, 3_000, frozenset()), task_of("best", 3_000, digest=bundle.digest)
    ranges = [range(0, 992), range(992, 2_016), range(2_016, 3_000)]
    jobs = [ShareJob(bundle, task, 0, draws) for draws in ranges]
    jobs[0].receive_base(BASE)
    jobs[share].shorten(500)
    for job in jobs:
        for start, result in stream.slices(range(job.first, job.max_draws)):
            job.receive(start, result)
    replies = [reply_of(bundle, job.answer()) for job in jobs]
    left = Job(bundle, task, 0)
    left.receive_base(BASE)
    left.shorten(ranges[share].start + 480)
    for start, result in stream.slices(range(3_000)):
        left.receive(start, result)
    (answer,) = merge(bundle, task, ranges, replies).rows
    assert claims(answer) == claims(left.answer())
    assert answer.draws == answer.granted_draws == ranges[share].start + 480


def test_overload_never_shortens_a_number_fixed_beforehand(bundle):
    job = ShareJob(bundle, task_of("fixed"), 0, range(4_992, 10_000))
    job.shorten(256)
    assert (job.least_draws, job.max_draws, job.answer().granted) == (5_008, 10_000, None)
    best = ShareJob(bundle, task_of("best"), 0, range(4_992, 10_000))
    best.shorten(-7)
    assert (best.least_draws, best.max_draws, best.answer().granted) == (256, 4_992 + 256, 256)


OTHER = "sha256:" + "0" * 64


def halves(bundle, asked, *changes):
    """Two shares of one task, made for the bundle `asked`, by engines that differ by `changes` from one another."""
    task, ranges = task_of("best", 64, digest=asked), [range(0, 32), range(32, 64)]
    jobs = [ShareJob(bundle, task, 0, draws) for draws in ranges]
    jobs[0].receive_base(BASE)
    replies = [reply_of(bundle, job.answer(), **change) for job, change in zip(jobs, changes, strict=True)]
    return bundle, task, ranges, replies


def test_draws_of_two_runtimes_are_not_counted_together(bundle):
    with pytest.raises(MixedRuntimes, match="by a and by b"):
        merge(*halves(bundle, bundle.digest, {"runtime": "a"}, {"runtime": "b"}))


@pytest.mark.parametrize(
    ("task", "first", "second"),
    [(own, first, second) for own in (True, False) for first in (True, False) for second in (True, False)][1:],
)
def test_draws_of_two_bundles_are_not_counted_together(bundle, task, first, second):
    """Neither of two engines, nor of an engine and the task, nor of the task and the bundle that merges."""
    task, first, second = (bundle.digest if own else OTHER for own in (task, first, second))
    with pytest.raises(MixedRuntimes, match=f"of {OTHER}"):
        merge(*halves(bundle, task, {"digest": first}, {"digest": second}))


def test_a_merged_answer_names_what_counted_its_shares(bundle):
    merged = merge(*halves(bundle, bundle.digest, {"runtime": "a"}, {"runtime": "a"}))
    assert (merged.digest, merged.runtime) == (bundle.digest, "a")


def test_votes_are_as_small_as_the_classes_allow(bundle):
    share = ShareJob(bundle, task_of(), 0, range(0, 64)).answer()
    assert (share.votes.dtype, share.scores.dtype) == (np.uint8, np.float32)


def test_the_score_s_draws_come_first_and_are_of_its_own_stream(bundle):
    task = any_task("fixed with a score", 1_000)
    whole, first, second = Job(bundle, task, 0), *(ShareJob(bundle, task, 0, draws) for draws in ranges_of(1_000, [8]))
    assert [job.first for job in (whole, first, second)] == [-SLICE, -SLICE, 256]
    assert [whole.source(place) for place in (-32, -1, 0, 999)] == [
        *((b"s" * 16, 0), (b"s" * 16, 31)),
        *((b"k" * 16, 0), (b"k" * 16, 999)),
    ]
    assert (first.source(-32), first.source(0)) == (whole.source(-32), whole.source(0))
    assert second.source(256) == (b"k" * 16, 256)
    assert whole.forecast() == (1_000 + SLICE, 1_000 + SLICE)
    assert whole.least_draws == 1_000 + SLICE
    for mode in ("fixed", "best", "target", "precision", "off"):
        assert Job(bundle, task_of(mode), 0).first == 0


def test_the_score_is_told_from_its_own_stream_and_the_class_from_the_other(bundle):
    stream = Stream(5, 1_000, frozenset())
    stream.votes[:], stream.scores[:] = 1, 1e9
    answer = counted_by_one(bundle, any_task("fixed with a score", 1_000), stream, 1_000)
    assert (answer.ood.score, answer.ood.certified) == (15.0, None)  # the lower median of 0, 1, ..., 31
    assert (answer.draws, answer.lost_draws, answer.certificate.class_index) == (1_000, 0, 1)
    assert counted_by_one(bundle, task_of("fixed", 1_000), stream, 1_000).ood is None
    stream.lost = frozenset([-1])
    lost = counted_by_one(bundle, any_task("fixed with a score", 1_000), stream, 1_000)
    assert (lost.ood, lost.lost_draws, lost.certificate) == (None, 0, answer.certificate)
