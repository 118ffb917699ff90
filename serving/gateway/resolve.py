"""From what a client asked to a complete task: defaults, limits and the noise keys. Pure.

A request picks among what its bundle declares, or lies within it; anything else is refused with what was expected.
"""

from __future__ import annotations

from functools import partial

from certify.claims.procedures import Fixed, Off
from certify.smoothing.keys import derive_key
from export.bundle import Manifest
from serving.config import Limits
from serving.errors import InvalidInput
from serving.gateway.asked import asked, drawing
from serving.inputs.grid import on_grid
from serving.messages import PARTS, InputNote, Model, Options, PredictRequest, Task
from serving.security.secret import key_id


def resolve(
    request: PredictRequest,
    model: Model,
    limits: Limits,
    secret: bytes,
    runtime: str = "",
    request_id: str = "",
    trace_id: str = "",
) -> tuple[Task, list[InputNote | None]]:
    """The task of a request, and for each row how far it was moved onto the grid. Raises `InvalidInput`.

    `runtime`, `request_id` and `trace_id` are the task's own.
    """
    manifest, options = model.manifest, request.options
    rows, notes = on_grid(request.inputs, manifest.input, limits.max_rows, options.snap)
    parts = _parts(options, manifest)
    if options.top_k is not None and options.top_k < 1:
        raise InvalidInput(f"top_k: expected 1 or more, how many of the largest numbers to answer; got {options.top_k}")
    procedure, max_draws = asked(options, parts, request.plain, manifest, limits)
    if options.receipt and isinstance(procedure, Off) and not (manifest.ood and "ood" in parts):
        raise InvalidInput(
            "receipt: nothing is drawn for this request, so there is nothing to sign; ask for certify=target, best,"
            " precision or fixed with the certificate or the mixture, or for the ood part"
        )
    # Where nothing is drawn there is no stream to have a key.
    key_of = partial(derive_key, secret, bytes.fromhex(model.digest.removeprefix("sha256:")))
    drawn = rows if drawing(procedure, parts, manifest) else ()
    fixed = procedure.draws if isinstance(procedure, Fixed) else None
    own_score = fixed and manifest.ood and "ood" in parts
    task = Task(
        model=manifest.name,
        version=manifest.version,
        digest=model.digest,
        rows=rows,
        keys=tuple([key_of(row, fixed) for row in drawn]),
        procedure=procedure,
        max_draws=max_draws,
        alpha=_alpha(options, manifest),
        timeout_s=_deadline_ms(options, manifest, limits) / 1000,
        parts=parts,
        receipt=options.receipt,
        key_id=key_id(secret) if options.receipt else "",
        score_keys=tuple([key_of(row) for row in drawn]) if own_score else (),
        runtime=runtime,
        request_id=request_id,
        trace_id=trace_id,
        asker=request.caller.name,
        weight=request.caller.weight,
    )
    return task, notes


def _parts(options: Options, manifest: Manifest) -> frozenset[str]:
    norm = manifest.formulas.parts[0].norm
    if options.norm not in (None, norm):
        raise InvalidInput(f"norm: expected {norm!r}, the only norm offered, got {options.norm!r}")
    parts = frozenset(PARTS if options.outputs is None else options.outputs)
    if not parts <= set(PARTS):
        raise InvalidInput(f"outputs: expected some of {', '.join(PARTS)}; got {', '.join(sorted(parts - set(PARTS)))}")
    return parts


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
