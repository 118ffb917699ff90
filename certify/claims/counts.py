"""What was counted of the votes: all that a claim about labels depends on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was counted over the first `draws` draws of a stream: `votes[c]` for class c, and `lost` without a result.

    Votes for "none" (a non-finite logit) are in `draws` only. A lost draw is a miss in every lower bound and a hit in
    every upper bound. Votes exclude each other, one a draw at most: labels that may be given together are refused.
    """

    draws: int
    votes: tuple[int, ...]
    lost: int = 0

    def __post_init__(self) -> None:
        if min(*self.votes, self.lost) < 0 or sum(self.votes) + self.lost > self.draws:
            raise ValueError(
                f"expected at most one vote a draw, of labels that exclude each other; got {sum(self.votes)} votes and"
                f" {self.lost} lost of {self.draws} draws"
            )

    def leader(self) -> int:
        """The class with most votes, the first of equals."""
        return max(range(len(self.votes)), key=self.votes.__getitem__)
