"""Figures as Markdown, ready for a README, and as one JSON document."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from export.evaluation.figures import CalibrationFigures, Detection, Figures, Smoothed


def document(figures: Figures) -> dict[str, Any]:
    """Everything that was measured, by the names of `export.evaluation.figures`."""
    return asdict(figures)


def markdown(figures: Figures) -> str:
    """The figures as tables, with the theorems behind their bounds."""
    blocks = [_accuracy(figures), _words(figures)]
    if len(figures.labels) <= 100:
        blocks.append(_labels(figures))
    if figures.detection:
        blocks += [_outside(figures.detection), _alarms(figures.detection)]
    blocks += [f"Warning: {each}." for each in figures.warnings]
    return "\n\n".join(blocks)


def _accuracy(figures: Figures) -> str:
    radii = " | ".join(f"certified {radius:.4g}" for radius in figures.radii)
    none = " | ".join("-" for _ in figures.radii)
    lines = [
        f"| {figures.rows:,} rows | accuracy | {radii} | mean radius | abstained |",
        "|-|-|" + "-|" * (len(figures.radii) + 2),
        f"| accurate network | {figures.accuracy} | {none} | - | - |",
    ]
    if figures.attacked:
        each = figures.attacked
        lines.append(
            f"| accurate network, attacked within {each.radius:.4g} ({each.rows} rows, {each.clean:.3f} unattacked) |"
            f" {each.accuracy} | {none} | - | - |"
        )
    lines.append(_row("smoothed", "-", figures.smoothed))
    if figures.mixed:
        lines.append(_row("mixture", str(figures.mixture_accuracy), figures.mixed))
    if figures.joint:
        lines.append(_row("joint label", "-", figures.joint.smoothed))
    return "\n".join(lines)


def _row(name: str, accuracy: str, row: Smoothed) -> str:
    certified = " | ".join(map(str, row.certified))
    return f"| {name} | {accuracy} | {certified} | {row.mean_radius:.3f} | {row.abstained} |"


def _words(figures: Figures) -> str:
    lines = [
        f"Certified r: the share of rows whose certified label is right and whose radius is at least r; sigma"
        f" {figures.sigma:g}, {figures.mean_draws:,.0f} draws a row on average.",
        f"In brackets, at confidence {figures.confidence:g}: of each certified line of a table a band that holds for all"
        " radii at once (Dvoretzky, Kiefer and Wolfowitz, with Massart's constant), of other shares the exact interval of"
        " Clopper and Pearson. Both speak of rows like these.",
    ]
    if figures.joint:
        lines.append(
            f"Joint label: right is the row's label together with being in distribution, as one; {figures.joint.out} of the"
            " rows are certified to be out of distribution, which is neither right nor abstained."
        )
    if figures.sure:
        lines.append(
            f"Confidence: of {figures.sure.rows:,} rows with a certified label, the smoothed network is proven to give it"
            f" {_down(figures.sure.in_ball)} or more under noise everywhere in its ball, and {_down(figures.sure.at_input)}"
            " or more at the input, on average of the rows. It is not how often that label is right."
        )
    for name, each in (
        ("the accurate network", figures.base_calibration),
        ("the mixture", figures.mixture_calibration),
    ):
        if each:
            lines.append(_calibration(name, each))
    if figures.lost_draws:
        lines.append(f"{figures.lost_draws:,} draws were lost, and count against every claim.")
    return "\n".join(lines)


def _down(number: float) -> str:
    """Three digits, never rounded up: it is proven."""
    return f"{math.floor(1_000 * number) / 1_000:.3f}"


def _calibration(name: str, each: CalibrationFigures) -> str:
    return (
        f"Expected calibration error of {name}, 15 bins of equal width of the largest probability: {each.error:.3f} (mean"
        f" probability {each.confidence:.3f}, accuracy {each.accuracy:.3f})."
    )


def _labels(figures: Figures) -> str:
    radii = " | ".join(f"certified {radius:.4g}" for radius in figures.radii)
    lines = [f"| label | rows | accuracy | {radii} | abstained |", "|-|-|-|-|" + "-|" * len(figures.radii)]
    for each in figures.labels:
        name = each.label.replace("|", "\\|")
        certified = " | ".join(map(str, each.smoothed.certified))
        lines.append(
            f"| {name} | {each.rows:,} | {each.accuracy:.3f} | {certified} | {each.smoothed.abstained.share:.3f} |"
        )
    return "\n".join(lines)


def _outside(detection: Detection) -> str:
    lines = [
        "| foreign set | rows | AUROC | certified AUROC | flagged | proven | false alarms at 95 % caught | missed at 95 %"
        " kept | AUPR foreign | AUPR ordinary |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    for each in detection.outside:
        name = each.name.replace("|", "\\|")
        lines.append(
            f"| {name} | {each.rows:,} | {each.auroc:.3f} | {each.certified_auroc:.3f} | {each.flagged} |"
            f" {each.certified_out:.3f} | {each.far_at_tpr_ood95:.3f} | {each.miss_at_tpr_id95:.3f} | {each.aupr_out:.3f} |"
            f" {each.aupr_in:.3f} |"
        )
    return "\n".join(lines)


def _alarms(detection: Detection) -> str:
    far = detection.claimed_alarms
    return (
        f"False alarms: {detection.false_alarms} of the test rows lie beyond the threshold (claimed: at most {far:.3g}),"
        f" {detection.small_p_values} have p <= {far:.3g}; {detection.certified_in:.3f} are proven to stay in distribution."
        " Certified AUROC takes each foreign row at the lower bound of its smoothed score within the bundle's radius."
    )
