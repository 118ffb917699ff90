"""What a run of the falsifier found, as a document and as lines to read."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from export.attack.campaign import Attempt, Findings
from export.attack.simulation import Tally

FORMAT = "certserve-attack/1"


def document(findings: Findings | None, tallies: Sequence[Tally]) -> dict[str, Any]:
    """Everything, for a file; the attacked input of a counterexample is part of it, of other attempts it is left out."""
    found: dict[str, Any] = {"format": FORMAT, "passed": passed(findings, tallies)}
    if findings is not None:
        attempts = [_attempt(each) for each in findings.attempts]
        found["attack"] = {
            **{key: value for key, value in dataclasses.asdict(findings).items() if key != "attempts"},
            "counterexamples": len(findings.counterexamples),
            "attempts": attempts,
        }
    if tallies:
        found["simulation"] = [
            {**dataclasses.asdict(each), "limit": each.limit, "passed": each.passed} for each in tallies
        ]
    return found


def passed(findings: Findings | None, tallies: Sequence[Tally]) -> bool:
    """Whether nothing was proven false."""
    return not (findings and findings.counterexamples) and all(each.passed for each in tallies)


def _attempt(attempt: Attempt) -> dict[str, Any]:
    found = dataclasses.asdict(attempt) | {"contradicted": attempt.verdict.contradicted}
    return found if attempt.verdict.contradicted else {key: value for key, value in found.items() if key != "point"}


def summary(findings: Findings | None, tallies: Sequence[Tally]) -> str:
    """The run in a screen of text."""
    blocks = [*([_attacked(findings)] if findings else []), *([_simulated(tallies)] if tallies else [])]
    ending = "no counterexample was found" if passed(findings, tallies) else "FALSE CLAIMS WERE PROVEN"
    return "\n\n".join([*blocks, ending])


def _attacked(findings: Findings) -> str:
    plan = findings.plan
    lines = [
        f"{findings.model} {findings.digest}, {findings.searched_by} search, seed {plan.seed}",
        f"{findings.answers} answers, {len(findings.attempts)} claims attacked, {findings.passes:,} noisy passes,"
        f" {findings.seconds:.0f} s; {plan.draws:,} fresh draws judged each attacked input",
        f"false alarms of this test: at most {plan.alpha:g} a run; an honest server may issue a false answer among these"
        f" with probability at most {findings.honest_chance:g}",
        "",
        "| claim | attacked | closest sample | smallest proven margin | counterexamples |",
        "|-|-|-|-|-|",
    ]
    by_claim: dict[str, list[Attempt]] = defaultdict(list)
    for each in findings.attempts:
        by_claim[each.claim].append(each)
    for name, group in by_claim.items():
        closest, proven = min(e.verdict.margin for e in group), min(e.verdict.proven_margin for e in group)
        false = sum(e.verdict.contradicted for e in group)
        lines.append(f"| {name} | {len(group)} | {closest:+.4f} | {proven:+.4f} | {false} |")
    if findings.closest:
        lines += ["", "closest call: " + _line(findings.closest)]
    return "\n".join([*lines, *(f"COUNTEREXAMPLE: {_line(each)}" for each in findings.counterexamples)])


def _line(attempt: Attempt) -> str:
    verdict = attempt.verdict
    return (
        f"picture {attempt.picture}, {attempt.claim} at distance {attempt.distance:.4g} of radius {attempt.radius:.4g}:"
        f" margin {verdict.margin:+.4f}, proven {verdict.proven_margin:+.4f}, p {verdict.p_value:.2g}"
        f" (level {verdict.level:.2g})"
    )


def _simulated(tallies: Sequence[Tally]) -> str:
    lines = ["| simulated claim | runs | false | budget | limit |", "|-|-|-|-|-|"]
    lines += [f"| {e.kind} | {e.runs:,} | {e.false} | {e.budget:g} | {e.limit} |" for e in tallies]
    rate = sum(each.false_alarm for each in tallies)
    return "\n".join([*lines, "", f"a sound server exceeds some limit here with probability at most {rate:g}"])
