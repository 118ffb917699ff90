"""From what a client asked to a complete task: defaults, limits and the noise keys. Pure.

A request picks among what its bundle declares, or lies within it; anything else is refused with what was expected.
"""

from __future__ import annotations

import math

from certify.smoothing.keys import derive_key
from export.bundle import Manifest
from serving.config import Limits
from serving.errors import InvalidInput
from serving.inputs.grid import on_grid
from serving.messages import MODES, PARTS, InputNote, Mode, Model, Options, PredictRequest, Task
from serving.security.secret import key_id


def resolve(
    request: PredictRequest, model: Model, limits: Limits, secret: bytes
) -> tuple[Task, list[InputNote | None]]:
    """The task of a request, and for each row how far it was moved onto the grid. Raises `InvalidInput`."""
    manifest, options = model.manifest, request.options
    rows, notes = on_grid(request.inputs, manifest.input, limits.max_rows, options.snap)
    parts = _parts(options)
    mode = _mode(options, parts, request.plain)
    tolerance = _radius_tolerance(options, mode, manifest)
    if options.receipt and mode == "off" and not (manifest.ood and "ood" in parts):
        raise InvalidInput(
            "receipt: nothing is drawn for this request, so there is nothing to sign; ask for certify=target, best,"
            " precision or fixed with the certificate or the mixture, or for the ood part"
        )
    max_draws = _max_draws(options, mode, manifest, limits)
    digest = bytes.fromhex(model.digest.removeprefix("sha256:"))
    fixed = max_draws if mode == "fixed" else None
    own_score = fixed and manifest.ood and "ood" in parts
    task = Task(
        model=manifest.name,
        version=manifest.version,
        digest=model.digest,
        rows=rows,
        keys=tuple(derive_key(secret, digest, row, fixed) for row in rows),
        mode=mode,
        target_radius=_target_radius(options, mode, manifest),
        max_draws=max_draws,
        alpha=_alpha(options, manifest),
        timeout_s=_deadline_ms(options, manifest, limits) / 1000,
        parts=parts,
        radius_tolerance=tolerance,
        receipt=options.receipt,
        key_id=key_id(secret) if options.receipt else "",
        score_keys=tuple(derive_key(secret, digest, row) for row in rows) if own_score else (),
    )
    return task, notes


def _parts(options: Options) -> frozenset[str]:
    if options.norm not in (None, "l2"):
        raise InvalidInput(f"norm: expected 'l2', the only norm offered, got {options.norm!r}")
    parts = frozenset(PARTS if options.outputs is None else options.outputs)
    if not parts <= set(PARTS):
        raise InvalidInput(f"outputs: expected some of {', '.join(PARTS)}; got {', '.join(sorted(parts - set(PARTS)))}")
    return parts


def _mode(options: Options, parts: frozenset[str], plain: bool) -> Mode:
    mode = options.certify or ("off" if plain else "target")
    if mode not in MODES:
        raise InvalidInput(f"certify: expected one of {', '.join(MODES)}; got {mode!r}")
    if options.target_radius is not None and mode != "target":
        raise InvalidInput(f"target_radius: only certify=target takes it, and certify is {mode}")
    if options.radius_tolerance is not None and mode != "precision":
        raise InvalidInput(f"radius_tolerance: only certify=precision takes it, and certify is {mode}")
    if options.radius_tolerance is None and mode == "precision":
        raise InvalidInput("radius_tolerance: certify=precision needs it: how closely the radius is to be known")
    if options.draws is not None and mode != "fixed":
        raise InvalidInput(f"draws: only certify=fixed takes it, and certify is {mode}; use max_draws")
    if options.max_draws is not None and mode not in ("target", "best", "precision"):
        raise InvalidInput(f"max_draws: certify=target, best and precision take it, and certify is {mode}")
    return "off" if not parts & {"certificate", "mixture"} else mode


def _max_draws(options: Options, mode: Mode, manifest: Manifest, limits: Limits) -> int:
    if mode == "fixed":
        menu = [draws for draws in manifest.fixed_draws if draws <= limits.max_draws]
        draws = menu[0] if options.draws is None and menu else options.draws
        if draws not in menu:
            raise InvalidInput(f"draws: expected one of {', '.join(map(str, menu))}, the bundle's menu; got {draws}")
        return draws
    if options.max_draws is None:
        return min(manifest.defaults.max_draws, limits.max_draws)
    if not 1 <= options.max_draws <= limits.max_draws:
        raise InvalidInput(f"max_draws: expected 1 to {limits.max_draws}, got {options.max_draws}")
    return options.max_draws


def _target_radius(options: Options, mode: Mode, manifest: Manifest) -> float:
    radius = options.target_radius
    if radius is None:
        return manifest.defaults.target_radius
    reach = 8 * manifest.noise.sigma
    if not (math.isfinite(radius) and 0 <= radius <= reach):
        raise InvalidInput(
            f"target_radius: expected 0 to {reach:g} ({manifest.input.units}), got {radius:g}: eight sigma is beyond"
            " what any number of draws can prove"
        )
    return radius


def _radius_tolerance(options: Options, mode: Mode, manifest: Manifest) -> float:
    tolerance = options.radius_tolerance
    if tolerance is None:
        return 0.0
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise InvalidInput(
            f"radius_tolerance: expected a number above 0 ({manifest.input.units}), got {tolerance:g}: a radius is known"
            " to within it once its bounds lie that close together"
        )
    if mode == "precision" and manifest.alpha_split.split().of_upper <= 0:
        raise InvalidInput(
            "certify: precision bounds the radius from above as well, and this bundle gives no share of alpha to that;"
            " ask for certify=best"
        )
    return tolerance if mode == "precision" else 0.0


def _alpha(options: Options, manifest: Manifest) -> float:
    alpha = manifest.defaults.alpha if options.alpha is None else options.alpha
    if not 1e-12 <= alpha <= 0.5:
        raise InvalidInput(f"alpha: expected 1e-12 to 0.5, the chance that any claim is false; got {alpha:g}")
    return alpha


def _deadline_ms(options: Options, manifest: Manifest, limits: Limits) -> int:
    if options.deadline_ms is None:
        return min(manifest.defaults.deadline_ms, limits.max_deadline_ms)
    if options.deadline_ms < 1:
        raise InvalidInput(f"deadline_ms: expected 1 to {limits.max_deadline_ms}, got {options.deadline_ms}")
    return min(options.deadline_ms, limits.max_deadline_ms)
