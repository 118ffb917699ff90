"""`certserve attack`: the falsifier, and the simulation of alpha. What attacks is imported when the command runs."""

from __future__ import annotations

import argparse
import json
import secrets
from pathlib import Path
from typing import Any

from certify.claims.procedures import PROCEDURES, Off
from serving.commands.console import write


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    attack = commands.add_parser(
        "attack", help="search for a counterexample to issued answers, or simulate alpha; one fails the run"
    )
    attack.add_argument("bundle", type=Path, nargs="?", help="the folder of the bundle that answers")
    attack.add_argument("--data", type=Path, help="a folder with IDX files")
    attack.add_argument("--split", default="t10k", help="which of them: SPLIT-images-idx3-ubyte (%(default)s)")
    attack.add_argument("--url", help="a running HTTP server to ask; without it an engine in this process answers")
    attack.add_argument(
        "--work", type=Path, help="the recipe's checkpoints, for gradients (needs certserve[export,torch])"
    )
    attack.add_argument("--pictures", type=int, default=20, help="how many are attacked (%(default)s)")
    attack.add_argument("--seconds", type=float, default=600.0, help="no attack begins later (%(default)s)")
    attack.add_argument(
        "--draws", type=int, default=10_000, help="noisy passes of each search and each test (%(default)s)"
    )
    attack.add_argument("--seed", type=int, help="of the falsifier's own noise (drawn and printed if left out)")
    attack.add_argument("--test-alpha", type=float, default=1e-3, help="false alarms of the whole run (%(default)s)")
    attack.add_argument(
        "--certify", choices=tuple(name for name in PROCEDURES if name != Off.name), help="what is asked of the server"
    )
    attack.add_argument("--target-radius", type=float, help="what is asked of the server")
    attack.add_argument("--radius-tolerance", type=float, help="what is asked of the server")
    attack.add_argument("--max-draws", type=int, help="what is asked of the server")
    attack.add_argument("--alpha", type=float, help="what is asked of the server: its own chance of a false answer")
    attack.add_argument("--simulate", type=int, default=0, metavar="RUNS", help="runs of alpha on exact models")
    attack.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    attack.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from export.attack import report
    from export.attack.campaign import AttackError
    from export.attack.simulation import simulate

    options.seed = secrets.randbits(63) if options.seed is None else options.seed
    if bool(options.bundle) != bool(options.data) or not (options.bundle or options.simulate > 0):
        raise AttackError("expected a bundle with --data, or --simulate with a number of runs, or both")
    findings = _attacked(options) if options.bundle else None
    tallies = simulate(options.simulate, options.seed) if options.simulate > 0 else []
    print(report.summary(findings, tallies))
    if options.json:
        write(options.json, json.dumps(report.document(findings, tallies), indent=1))
    return 0 if report.passed(findings, tallies) else 1


def _attacked(options: argparse.Namespace) -> Any:
    from export.attack.campaign import Answering, CampaignPlan, attack, shaped
    from export.bundle import load
    from export.bundle.batches import without_grades
    from export.data.idx import read_split
    from serving.commands import answers
    from serving.runtimes.open import open_runtime
    from serving.runtimes.runtime import passing

    plan = CampaignPlan(
        pictures=options.pictures,
        seconds=options.seconds,
        draws=options.draws,
        alpha=options.test_alpha,
        seed=options.seed,
    )
    bundle, data = load(options.bundle), read_split(options.data, options.split)
    inputs = shaped(data.images, bundle)
    ascent = None
    if options.work:
        from export.attack.gradients import from_checkpoint

        ascent = from_checkpoint(bundle, options.work)
    names = ("certify", "target_radius", "radius_tolerance", "max_draws", "alpha")
    asked = {name: value for name in names if (value := getattr(options, name)) is not None}
    own = open_runtime(bundle)
    noisy = without_grades(passing(own), len(bundle.manifest.labels))

    def attacked(answering: Answering) -> Any:
        return attack(bundle, noisy, answering, inputs, data.labels, plan, ascent, runtime=own.description)

    if options.url:
        return attacked(answers.from_server(options.url, bundle, asked))
    with answers.from_engine(bundle, asked) as answering:
        return attacked(answering)
