"""What must hold of every answer of a simulated server, each by its name.

Those that are seen while it runs are named where they are seen: `answered_once`, `nothing_starves`, `nothing_raises`.
"""

from __future__ import annotations

import math

from serving.errors import DeadlinePassed, Internal, Overloaded, Unavailable
from serving.gateway.retry import GRACE_S
from serving.messages import Answer
from tests.simulation.device import essence, some_claim_is_false
from tests.simulation.replica import BATCH_S

HONEST = (DeadlinePassed, Internal, Overloaded, Unavailable)


def check(world) -> None:
    """Write down in `world.broken` what does not hold."""
    for asked in world.asked:
        if len(asked.answers) != (not asked.cancelled):
            world.breaks("answered_once", f"{len(asked.answers)} answers, cancelled: {asked.cancelled}")
        for moment, answer in asked.answers:
            _in_time(world, asked, moment)
            if isinstance(answer, Answer):
                _rows(world, asked, answer)
            elif not isinstance(answer, HONEST):
                world.breaks("answered_once", f"with {answer!r}")


def _in_time(world, asked, moment: float) -> None:
    """A frozen process is given up after the grace; whoever lives answers within a batch of the deadline."""
    late = moment - asked.arrived - asked.request.options.deadline_ms / 1_000
    if late > (GRACE_S if asked.frozen else BATCH_S) + 1e-9:
        world.breaks("in_time", f"{late:.3f} s after the deadline, frozen: {asked.frozen}")


def _rows(world, asked, answer: Answer) -> None:
    _named(world, asked, answer)
    if len(answer.predictions) != len(asked.request.inputs):
        world.breaks("answered_once", "a row is missing")
    for row, prediction in enumerate(answer.predictions):
        _counted_once(world, asked.task, row, prediction)
        _pure(world, asked.task, row, prediction)
        if (
            not asked.task.procedure.anytime
            and prediction.draws < asked.task.max_draws
            and prediction.certificate.bound
        ):
            world.breaks("fixed_cut_abstains", f"certified after {prediction.draws} draws")
        moved = math.dist(asked.request.inputs[row], asked.task.rows[row])
        noted = prediction.input.snap_distance if prediction.input else 0.0
        if not math.isclose(noted, moved, abs_tol=1e-9):
            world.breaks("moves_are_noted", f"moved by {moved}, noted {noted}")


def _named(world, asked, answer: Answer) -> None:
    """An answer names the bundle that it was asked of, and its receipts the one that counted; all name one runtime."""
    said = {(answer.model.digest, answer.model.runtime)}
    said |= {(asked.task.digest, answer.model.runtime)}
    for prediction in answer.predictions:
        if prediction.receipt is not None:
            model = world.receipts[int(prediction.receipt)].model
            said.add((model.digest, model.runtime))
    if len(said) > 1:
        world.breaks("names_what_made_it", f"{said}")
    world.runtimes.add(answer.model.runtime)
    if len(world.runtimes) > 1:
        world.breaks("one_runtime", f"{world.runtimes}")


def _counted_once(world, task, row: int, prediction) -> None:
    """What the receipt says was counted are the votes of the first draws, each once; lost ones are said to be lost."""
    if prediction.receipt is None:
        return
    receipt = world.receipts[int(prediction.receipt)]
    drawn = world.device.votes(task.keys[row], task.rows[row], prediction.draws)
    missing = [there - counted for there, counted in zip(drawn, receipt.votes, strict=True)]
    stretch = (receipt.noise.key, receipt.noise.start, receipt.noise.stop)
    if stretch != (task.keys[row].hex(), 0, prediction.draws) or min(missing) < 0 or sum(missing) != receipt.lost:
        world.breaks("counted_once", f"{receipt.votes} and {receipt.lost} lost, of {drawn}")
    if receipt.score_draws.key != (task.score_keys or task.keys)[row].hex():
        world.breaks("counted_once", "the score is of another stream")


def _pure(world, task, row: int, prediction) -> None:
    """The same draws of the same key give the same answer, wherever, whenever and beside whatever they are counted."""
    if prediction.lost_draws == 0:
        bundle = next(each for each in world.every_bundle() if each.digest == task.digest)
        scored = prediction.ood is not None  # fixed draws have others for the score, which may be lost or cut alone
        if essence(prediction) != essence(world.device.alone(bundle, task, row, prediction.draws, scored)):
            world.breaks("pure", f"another answer than that of the same {prediction.draws} draws alone")


def claims(world) -> list[tuple[str, bool]]:
    """Of every input that was asked about: its model, and whether its first answer claims something false.

    A key's draws are the same each time, so later answers about an input are no new experiments.
    """
    first: dict[bytes, tuple[str, bool]] = {}
    for asked in world.asked:
        answers = [answer for _, answer in asked.answers if isinstance(answer, Answer)]
        for row, key in enumerate(asked.task.keys if asked.task else ()):
            false = any(some_claim_is_false(asked.task.rows[row], each.predictions[row]) for each in answers)
            first.setdefault(key, (asked.task.model, false))
    return list(first.values())
