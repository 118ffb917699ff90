"""The test that alone declares a counterexample, so that the falsifier raises no false alarms of its own.

The number of passes and the events are fixed before the first of its draws, and the draws are keyed for it alone. Of an
event that a true claim bounds by `most`, k of n passes have an exact binomial tail `P(Bin(n, most + charge) >= k)`; a
claim with two events is contradicted only if both tails are small (an intersection-union test: no correction needed).
The level is `alpha / (pictures * MOST_CLAIMS)`, Bonferroni over all that a run may test, so in a run on true claims the
chance of any false alarm is at most `alpha`.
"""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import binom

from certify.bounds import binomial
from export.attack.claims import MOST_CLAIMS
from export.attack.sample import Sample, VoteEvent

_ROUNDING = 1 + 1e-9  # SciPy's tail is good to a relative 3e-12


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one test found. `margin` is how far the sample is from a contradiction, `proven_margin` how far the truth is.

    Both are probabilities; below 0 means beyond. `proven_margin` holds at the test's level.
    """

    p_value: float
    level: float
    margin: float
    proven_margin: float

    @property
    def contradicted(self) -> bool:
        """Whether the claim is false, at the test's level."""
        return self.p_value <= self.level


def level_of(alpha: float, pictures: int) -> float:
    """The level of one test in a run of at most so many pictures."""
    return alpha / (pictures * MOST_CLAIMS)


def judge(sample: Sample, events: tuple[VoteEvent, ...], charge: float, level: float) -> Judgement:
    """Test a claim by its events; `charge` is the total variation of the drawn noise, as in every bound."""
    tails, margins, proven = [], [], []
    for event in events:
        hits, most = event.hits(sample), min(1.0, event.most + charge)
        tails.append(min(1.0, float(binom.sf(hits - 1, sample.draws, most)) * _ROUNDING))
        margins.append(event.most - hits / sample.draws)
        highest = binomial.clopper_pearson_upper(sample.draws, hits, level / len(events))
        proven.append(event.most - highest - charge)
    return Judgement(max(tails), level, max(margins), max(proven))
