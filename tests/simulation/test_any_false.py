"""Is anything false in any answer about an input, whatever is asked and whatever the device loses? End to end, exactly.

Two events have a budget each, and their answers say so (`alpha`, `alpha_split`):

- *anytime*: no claim of any kind is false in any answer of `target`, `best`, `precision` and `off` about an input, at the
  largest alpha that was asked: 1 - alpha. The bundle's split shares it out.
- *fixed*: no claim is false in any answer of `fixed` about it, for every number of draws of the menu: 1 - alpha. Each has
  alpha over the size of the menu, for the class alone. The score in these answers is that of the anytime event.

So of N inputs no more than `binom.isf(1e-6, N, alpha)` may have something false, for each event; over secrets a sound server
exceeds one such limit with probability 1e-6 at most. Secrets, clients and devices are seeded: a run is repeatable.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache

import numpy as np
import onnxruntime
import pytest
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.claims import procedures
from certify.claims.certificate import WHOLE_ON_CLASS
from serving.engine import job, workload
from serving.messages import Options
from tests.simulation import oracles
from tests.simulation.clients import Client
from tests.simulation.conftest import prepare_worker
from tests.simulation.losing import MAX_DRAWS, TOLERANCES
from tests.simulation.oracles import MENU
from tests.simulation.stage import TOGETHER, Account, played
from tests.simulation.test_mutants import ScoreOfTheVotes

FALSE_ALARM = 1e-6
ALPHAS = (0.1, 0.5)
KINDS = ("half_space", "three_classes")
SHORT = range(4)
LONG, SHARE = range(1_000, 1_120), 20
LEAST_ANSWERS = 20_000
HONEST, GREEDY = TOLERANCES[:1], TOLERANCES[3:]


@pytest.fixture(scope="module", params=KINDS)
def oracle(request, tmp_path_factory):
    return getattr(oracles, request.param)(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def half_space(tmp_path_factory):
    return oracles.half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory):
    return oracles.three_classes(tmp_path_factory.mktemp("models"))


def limit(inputs: int, alpha: float) -> int:
    return int(binom.isf(FALSE_ALARM, inputs, alpha))


def show(name, alpha, account) -> None:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(account.false.items()))
    modes = ", ".join(f"{mode} {count}" for mode, count in sorted(account.answers.items()))
    print(f"\n{name} at alpha {alpha}: {account.every_answer()} answers about {account.inputs} inputs ({modes})")
    print(f"  inputs with a false claim, by kind: {kinds or 'none'}")
    for event in ("anytime", "fixed", "either"):
        found = getattr(account, event)
        budget = 2 * alpha if event == "either" else alpha
        print(f"  {event}: {found} = {found / account.inputs:.4f} of the inputs; budget {budget}")
    print(f"  limit of each event: {limit(account.inputs, alpha)} inputs; false-alarm rate {FALSE_ALARM}")


def holds(account, alpha: float) -> None:
    """Nothing broke, and no more inputs than alpha allows have something false."""
    assert account.broken == []
    assert account.dearest <= 1 + 1e-12, "the answers on an input say that they spend more than alpha"
    assert account.two_scores == 0, "one input has two scores"
    assert account.anytime <= limit(account.inputs, alpha)
    assert account.fixed <= limit(account.inputs, alpha)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_more_inputs_than_alpha_have_any_false_claim(half_space, three_classes, alpha):
    both = Account()
    for oracle in (half_space, three_classes):
        account = played(oracle, alpha, SHORT)
        show(oracle.bundle.manifest.name, alpha, account)
        holds(account, alpha)
        both.merge(account)
    assert all(both.answers[kind] for kind in ("target", "best", "precision", "off", "fixed", "lost", "cut", "refused"))


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_no_more_inputs_than_alpha_have_any_false_claim_in_many_answers(tmp_path):
    """20,000 answers and more at each alpha.

    acceptance: claims 7.1.
    """
    cases = [(kind, alpha, start) for kind in KINDS for alpha in ALPHAS for start in LONG[::SHARE]]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), prepare_worker) as pool:
        shares = list(pool.map(_share, [tmp_path] * len(cases), *zip(*cases, strict=True)))
    accounts = defaultdict(Account)
    for (kind, alpha, _), account in zip(cases, shares, strict=True):
        accounts[kind, alpha].merge(account)
    for (kind, alpha), account in accounts.items():
        show(kind, alpha, account)
    for (_, alpha), account in accounts.items():
        holds(account, alpha)
        assert min(account.anytime, account.fixed) > 0, "nothing was false: the clients ask for too little"
    for alpha in ALPHAS:
        assert sum(accounts[kind, alpha].every_answer() for kind in KINDS) >= LEAST_ANSWERS


def _share(folder, kind, alpha, start):
    oracle = getattr(oracles, kind)(folder / f"{kind}-{alpha}-{start}")
    return played(oracle, alpha, range(start, start + SHARE))


def test_the_virtual_device_votes_as_the_graph_does(oracle):
    grid = np.array([[x, 1, 2, 3] for x in range(-40, 300)], dtype=np.int32)
    session = onnxruntime.InferenceSession(oracle.bundle.noisy)
    assert np.array_equal(session.run(["vote"], {"lattice": grid})[0], oracle.passes(grid[:, 0]))


def test_what_is_said_to_be_true_of_the_oracles_is_true_of_their_noise(oracle):
    """Shares against the noise that is drawn, and reaches against the shares at a hair on either side."""
    noise = oracle.bundle.law.table.sample(b"k" * 16, 0, 20_000, 4)[:, 0].astype(int)
    for first in oracle.firsts:
        shares = np.array(oracle.shares(first))
        drawn = np.bincount(oracle.votes(first + noise), minlength=len(shares)) / len(noise)
        assert np.abs(drawn - shares).max() < 5 * 0.5 / np.sqrt(len(noise))
        label = int(np.argmax(shares))
        for needed in (0.0, 0.1 / 0.9):
            reach = oracle.reach(first, label, needed)
            if reach >= 0:
                assert min(oracle.lead(first + side * (reach - 1e-6), label) for side in (-1, 1)) > needed
                assert min(oracle.lead(first + side * (reach + 1e-6), label) for side in (-1, 1)) < needed
        for other in range(len(shares)):
            assert (oracle.reach(first, other) >= 0) == (other == label)


class AllOfTheMenu(Client):
    """It asks for fixed draws alone."""

    patience = 0


class Insists(Client):
    """It asks once, for a hair more than is true, with all the draws that there are."""

    patience, menu = 1, ()

    def _next(self):
        above = self.oracle.proven_radius(self.first) + 1e-6
        return Options(certify="target", target_radius=above, max_draws=MAX_DRAWS, alpha=self.alpha)


def far_too_many(oracle, event: str, client, inputs: int = 120, **device) -> bool:
    """Whether more of `inputs` have something false than a sound server has at alpha .1; no more are asked then."""
    found, allowed = Account(), limit(inputs, 0.1)
    for seed in range(inputs // TOGETHER):
        found.merge(played(oracle, 0.1, range(seed, seed + 1), client, **device))
        if getattr(found, event) > allowed:
            break
    print(f"\n{getattr(found, event)} of {found.inputs} inputs with something false, and {allowed} of {inputs} allowed")
    return getattr(found, event) > allowed


def test_fixed_draws_that_do_not_share_alpha_are_found(three_classes, monkeypatch):
    """Mutant: each number of the menu at the whole of alpha."""
    monkeypatch.setattr(procedures, "class_alone", lambda menu: WHOLE_ON_CLASS)
    hardest = replace(three_classes, firsts=(100,))  # where the likeliest class has a hair less than one half
    assert far_too_many(hardest, "fixed", AllOfTheMenu, inputs=240, tolerances=HONEST)
    assert played(three_classes, 0.1, range(1), AllOfTheMenu).dearest == pytest.approx(len(MENU))


def test_lost_draws_that_are_left_out_are_found(three_classes, monkeypatch):
    """Mutant: what the device has lost is as if it had never been drawn."""
    honest = job.Job._counts

    def dropped(self):
        counts = honest(self)
        return replace(counts, draws=counts.draws - counts.lost, lost=0)

    monkeypatch.setattr(job.Job, "_counts", dropped)
    aimed = replace(three_classes, firsts=(81, 128))
    assert far_too_many(aimed, "anytime", Insists, tolerances=GREEDY, wishes=("for",))


def test_a_radius_from_a_chosen_number_of_draws_is_found(three_classes, monkeypatch):
    """Mutant: Clopper-Pearson, true of one number of draws fixed beforehand, at whichever number a client stops."""

    @lru_cache(maxsize=2**16)
    def lower(draws, hits, alpha):
        return binomial.clopper_pearson_chosen_complement(draws, hits, alpha) if draws else 1.0

    def exceeds(draws, hits, m, alpha, complement=None):
        return 1 - lower(draws, hits, alpha) > m

    monkeypatch.setattr(anytime, "chosen_lower_complement", lower)
    monkeypatch.setattr(anytime, "chosen_exceeds", exceeds)
    aimed = replace(three_classes, firsts=(128,))
    assert far_too_many(aimed, "anytime", Insists, inputs=480, tolerances=HONEST)


def test_a_score_of_the_fixed_draws_is_found(half_space, monkeypatch):
    """Mutant: whoever asks for another number of draws gets another score, and another p-value."""
    monkeypatch.setattr(workload, "Job", ScoreOfTheVotes)
    assert played(half_space, 0.1, range(1)).two_scores
