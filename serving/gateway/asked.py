"""The procedure that a request asks for: made here, once, from what was said and what the bundle declares. Pure."""

from __future__ import annotations

import math

from certify.claims.procedures import PROCEDURES, Asked, Best, Fixed, Off, Precision, Target, made
from certify.smoothing.ball import Ball, parse
from export.bundle import Manifest
from serving.config import Limits
from serving.errors import InvalidInput
from serving.messages import Options


def asked(
    options: Options, parts: frozenset[str], plain: bool, manifest: Manifest, limits: Limits
) -> tuple[Asked, int]:
    """The procedure, and how many draws it may make. Raises `InvalidInput`."""
    kind = _kind(options, plain)
    _refuse_others(options, kind)
    tolerance, target = _tolerance(options, manifest), _target(options, manifest) if kind is Target else None
    if kind is not Off and not parts & needing_votes(manifest):
        kind = Off
    if kind is Precision and manifest.alpha_split.of_upper <= 0:
        raise InvalidInput(
            "certify: precision bounds the radius from above as well, and this bundle gives no share of alpha to that;"
            " ask for certify=best"
        )
    draws = (_of_menu if kind is Fixed else _max_draws)(options, manifest, limits)
    return made(kind, target, tolerance, draws), draws


def drawing(procedure: Asked, parts: frozenset[str], manifest: Manifest) -> bool:
    """Whether anything is drawn for it: votes, or the scores of a request that asks for no more."""
    return not isinstance(procedure, Off) or ("ood" in parts and manifest.ood is not None)


def needing_votes(manifest: Manifest) -> set[str]:
    """The parts of an answer that votes under noise are drawn for."""
    further = {"joint": manifest.alpha_split.of_joint > 0, "confidence": bool(manifest.thresholds)}
    return {"certificate", "mixture", *(part for part, declared in further.items() if declared)}


def _kind(options: Options, plain: bool) -> type[Asked]:
    if options.certify is None or options.certify == "":
        return Off if plain else Target
    if options.certify not in PROCEDURES:
        raise InvalidInput(f"certify: expected one of {', '.join(PROCEDURES)}; got {options.certify!r}")
    return PROCEDURES[options.certify]


def _refuse_others(options: Options, kind: type[Asked]) -> None:
    """Refuse the parameters of another procedure, and the absence of one's own."""
    said = f"and certify is {kind.name}"
    if options.target_radius is not None and kind is not Target:
        raise InvalidInput(f"target_radius: only certify=target takes it, {said}")
    if options.radius_tolerance is not None and kind is not Precision:
        raise InvalidInput(f"radius_tolerance: only certify=precision takes it, {said}")
    if options.radius_tolerance is None and kind is Precision:
        raise InvalidInput("radius_tolerance: certify=precision needs it: how closely the radius is to be known")
    if options.draws is not None and kind is not Fixed:
        raise InvalidInput(f"draws: only certify=fixed takes it, {said}; use max_draws")
    if options.max_draws is not None and kind not in (Target, Best, Precision):
        raise InvalidInput(f"max_draws: certify=target, best and precision take it, {said}")


def _of_menu(options: Options, manifest: Manifest, limits: Limits) -> int:
    menu = [draws for draws in manifest.fixed_draws if draws <= limits.max_draws]
    draws = menu[0] if options.draws is None and menu else options.draws
    if draws is None or draws not in menu:
        raise InvalidInput(f"draws: expected one of {', '.join(map(str, menu))}, the bundle's menu; got {draws}")
    return draws


def _max_draws(options: Options, manifest: Manifest, limits: Limits) -> int:
    if options.max_draws is None:
        return min(manifest.defaults.max_draws, limits.max_draws)
    if not 1 <= options.max_draws <= limits.max_draws:
        raise InvalidInput(f"max_draws: expected 1 to {limits.max_draws}, got {options.max_draws}")
    return options.max_draws


def _target(options: Options, manifest: Manifest) -> Ball:
    law, radius = manifest.formulas, options.target_radius
    if radius is None:
        return parse(law.parts, manifest.defaults.target_radius)
    reach = law.reach
    if radius < 0:
        raise InvalidInput(
            f"target_radius: expected 0 to {reach.size:g}, got {radius:g}: a radius is a distance, 0 or more"
        )
    if not (math.isfinite(radius) and radius <= reach.size):
        raise InvalidInput(
            f"target_radius: expected 0 to {reach.size:g} ({manifest.input.units}), got {radius:g}: eight sigma is beyond"
            " what any number of draws can prove"
        )
    return parse(law.parts, radius)


def _tolerance(options: Options, manifest: Manifest) -> float:
    tolerance = options.radius_tolerance
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise InvalidInput(
            f"radius_tolerance: expected a number above 0 ({manifest.input.units}), got {tolerance:g}: a radius is known"
            " to within it once its bounds lie that close together"
        )
    return tolerance or 0.0
