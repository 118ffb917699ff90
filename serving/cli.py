"""The command line: `certserve serve`, `predict`, `verify`, `replay`, `recipe`, `evaluate` and `attack`.

The composition root: the only module that joins the server with `export`, which it imports when it is asked to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.bundle import manifests
from serving import audit, banner, console, log, ports, signing
from serving.config import Settings, declared, explained
from serving.console import Parser
from serving.console import say as _say
from serving.secret import (
    VARIABLE,
    SecretError,
    key_id,
    loose,
    read_secret,
    read_signing_key,
    secret_file,
    signing_key_file,
)
from serving.signing import Signer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is said in one line, with exit code 1, as is a proven counterexample."""
    return console.guarded(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int | None:
    options = _parser().parse_args(arguments)
    log.start()
    code: int | None = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="certserve", description="Inference whose every answer says what is guaranteed.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_serve(commands)
    _add_predict(commands)
    audit.add_commands(commands)
    _add_recipe(commands)
    _add_evaluate(commands)
    _add_attack(commands)
    return parser


def _add_serve(commands: Any) -> None:
    serve = commands.add_parser("serve", help="serve the bundles of a repository over HTTP and gRPC")
    serve.add_argument("models", type=Path, help="folder of bundles: <name>/<version>/")
    serve.add_argument("--local", action="store_true", help="one process, without Ray")
    for each in declared():
        kind = Path if each.name.endswith("_file") else type(each.default)
        option = "--" + each.name.replace("_", "-")
        serve.add_argument(option, type=kind, default=each.default, help=explained(each).replace("%", "%%"))
    serve.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> None:
    values = {each.name: getattr(options, each.name) for each in declared()} | {"models": options.models.resolve()}
    # Before any file is made or read: what is refused leaves nothing behind.
    settings = ports.settled(Settings.from_mapping(values))
    # Resolved here, so that every process reads the same file.
    secret = secret_file(options.noise_secret_file or _from_environment()).resolve()
    signing_key = _signing_key(options.signing_key_file)
    for file in (secret, signing_key):
        if file is not None and (warning := loose(file)):
            _say(f"warning: {warning}")
    settings = replace(settings, noise_secret_file=secret, signing_key_file=signing_key)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_until_told(settings, options.local))


def _signing_key(given: Path | None) -> Path | None:
    """The file of the signing key; where none is given and none can be kept, the server does without receipts."""
    try:
        return signing_key_file(given).resolve()
    except SecretError as error:
        if given is not None:
            raise
        _say(f"no receipts will be given: {error}")
        return None


def _from_environment() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


async def _serve_until_told(settings: Settings, local: bool) -> None:
    from serving.first_answer import through_each_wire

    stop, started = asyncio.Event(), asyncio.Event()
    _heed_signals(stop, started)
    assert settings.noise_secret_file is not None
    _say(f"noise key id {key_id(read_secret(settings.noise_secret_file))}")
    if settings.signing_key_file is not None:
        public = Signer(read_signing_key(settings.signing_key_file)).public
        _say(f"receipts are signed with key id {signing.key_id(public)}, public key {public.hex()}")
    served = manifests(settings.models)  # before anything starts, for a folder that is no repository
    try:
        async with _home(settings, local) as samples:
            gc.freeze()  # what is loaded stays: to look through it for garbage would hold up every request for 40 ms
            await through_each_wire(settings, samples, _say)
            started.set()
            _say(banner.text(settings, served, sys.argv[0]))
            await stop.wait()
    except asyncio.CancelledError:
        _say("stopped before it was ready")
        os._exit(0)  # a thread that proves a model would be waited for


def _heed_signals(stop: asyncio.Event, started: asyncio.Event) -> None:
    """Ctrl-C and SIGTERM end a start at once, by cancelling the running task; afterwards they set `stop`."""
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    assert serving is not None

    def told() -> None:
        if not started.is_set() and not stop.is_set():
            serving.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)


def _home(settings: Settings, local: bool) -> contextlib.AbstractAsyncContextManager[Any]:
    assert settings.noise_secret_file is not None
    if local:
        from serving.local import running

        return running(settings, read_secret(settings.noise_secret_file), _say)
    from serving.ray_home import running as running_on_ray

    return running_on_ray(settings, _say)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="send one picture and print the answer")
    predict.add_argument("picture", type=Path, help="a PNG or JPEG file")
    predict.add_argument("--model", default="fashion-mnist", help="(%(default)s)")
    predict.add_argument("--url", default="http://127.0.0.1:8000", help="the HTTP server (%(default)s)")
    predict.add_argument("--grpc", metavar="HOST:PORT", help="ask over gRPC (certserve.v1) instead")
    predict.add_argument("--certify", choices=("off", "target", "best", "precision", "fixed"))
    predict.add_argument("--target-radius", type=float)
    predict.add_argument("--radius-tolerance", type=float)
    predict.add_argument("--max-draws", type=int)
    predict.add_argument("--draws", type=int)
    predict.add_argument("--alpha", type=float)
    predict.add_argument("--deadline-ms", type=int)
    predict.add_argument("--receipt", type=Path, metavar="FILE", help="ask for a signed receipt and write it there")
    predict.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> None:
    from serving import client
    from serving.errors import CertserveError, InvalidInput
    from serving.wire import image

    asked = {
        name: value
        for name in ("certify", "target_radius", "radius_tolerance", "max_draws", "draws", "alpha", "deadline_ms")
        if (value := getattr(options, name)) is not None
    }
    asked |= {"receipt": True} if options.receipt else {}
    picture = options.picture.read_bytes()
    try:
        kind = image.sniffed(picture)
    except CertserveError as error:
        raise InvalidInput(f"{options.picture}: {error}") from error
    if options.grpc:
        answer = client.predict_grpc(options.grpc, options.model, picture, kind, asked)
    else:
        answer = client.predict_http(options.url, options.model, picture, kind, asked)
    if options.receipt:
        _write(options.receipt, json.dumps(answer["predictions"][0].pop("receipt")))
    print(json.dumps(answer, indent=1))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text + "\n")
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(file)) from error


def _add_recipe(commands: Any) -> None:
    recipe = commands.add_parser(
        "recipe", help="train, export, fit and calibrate a bundled model (needs certserve[export])"
    )
    recipe.add_argument("name", choices=("fashion-mnist",))
    recipe.add_argument("--data", type=Path, required=True, help="a folder of the four IDX files")
    recipe.add_argument(
        "--work", type=Path, default=Path("work"), help="checkpoints; training resumes here (%(default)s)"
    )
    recipe.add_argument("--out", type=Path, default=Path("models"), help="the repository to write to (%(default)s)")
    recipe.set_defaults(run=_recipe)


def _recipe(options: argparse.Namespace) -> None:
    from export.recipes import fashion_mnist
    from serving.runtimes.onnx_runtime import open_graph

    bundle = fashion_mnist.run(options.data, options.work, options.out, open_graph)
    print(f"wrote {bundle.manifest.name}/{bundle.manifest.version} {bundle.digest}")


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="measure a bundle on a test set and print a table")
    evaluate.add_argument("bundle", type=Path, help="a bundle's folder")
    evaluate.add_argument("--data", type=Path, required=True, help="a folder with the IDX files t10k-*")
    evaluate.add_argument(
        "--outside", type=Path, action="append", default=[], metavar="FOLDER/NAME", help="a set of foreign pictures"
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from export.batches import in_batches
    from export.bundle import load
    from export.evaluate import evaluate, markdown, shaped
    from export.outside import outside_sets
    from export.recipes.idx import read_split
    from serving.runtimes.onnx_runtime import OnnxRuntime

    bundle, test = load(options.bundle), read_split(options.data, "t10k")
    images = shaped(test.images, bundle, str(options.data))
    outside = {
        each.name: shaped(read_split(each.parent, each.name).images, bundle, str(each)) for each in options.outside
    }
    runtime = OnnxRuntime(bundle)
    outside |= outside_sets(images[::4], seed=0)
    noisy = in_batches(runtime.noisy, bundle.manifest.batch_rows)
    print(markdown(evaluate(bundle, noisy, runtime.base, images, test.labels, outside)))


def _add_attack(commands: Any) -> None:
    attack = commands.add_parser(
        "attack", help="search for a counterexample to issued answers, or simulate alpha; one fails the run"
    )
    attack.add_argument("bundle", type=Path, nargs="?", help="the folder of the bundle that answers")
    attack.add_argument("--data", type=Path, help="a folder with IDX files")
    attack.add_argument("--split", default="t10k", help="which of them: SPLIT-images-idx3-ubyte (%(default)s)")
    attack.add_argument("--url", help="a running HTTP server to ask; without it an engine in this process answers")
    attack.add_argument("--work", type=Path, help="the recipe's checkpoints, for gradients (needs certserve[export])")
    attack.add_argument("--pictures", type=int, default=20, help="how many are attacked (%(default)s)")
    attack.add_argument("--seconds", type=float, default=600.0, help="no attack begins later (%(default)s)")
    attack.add_argument(
        "--draws", type=int, default=10_000, help="noisy passes of each search and each test (%(default)s)"
    )
    attack.add_argument("--seed", type=int, help="of the falsifier's own noise (drawn and printed if left out)")
    attack.add_argument("--test-alpha", type=float, default=1e-3, help="false alarms of the whole run (%(default)s)")
    attack.add_argument(
        "--certify", choices=("target", "best", "precision", "fixed"), help="what is asked of the server"
    )
    attack.add_argument("--target-radius", type=float, help="what is asked of the server")
    attack.add_argument("--radius-tolerance", type=float, help="what is asked of the server")
    attack.add_argument("--max-draws", type=int, help="what is asked of the server")
    attack.add_argument("--alpha", type=float, help="what is asked of the server: its own chance of a false answer")
    attack.add_argument("--simulate", type=int, default=0, metavar="RUNS", help="runs of alpha on exact models")
    attack.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    attack.set_defaults(run=_attack)


def _attack(options: argparse.Namespace) -> int:
    import secrets

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
        _write(options.json, json.dumps(report.document(findings, tallies), indent=1))
    return 0 if report.passed(findings, tallies) else 1


def _attacked(options: argparse.Namespace) -> Any:
    from export.attack.campaign import Plan, attack, shaped
    from export.batches import in_batches
    from export.bundle import load
    from export.recipes.idx import read_split
    from serving import answers
    from serving.runtimes.onnx_runtime import OnnxRuntime

    plan = Plan(
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
    own = OnnxRuntime(bundle)
    noisy = in_batches(own.noisy, bundle.manifest.batch_rows)

    def attacked(answering: answers.Answering) -> Any:
        return attack(bundle, noisy, answering, inputs, data.labels, plan, ascent, runtime=own.description)

    if options.url:
        return attacked(answers.from_server(options.url, bundle, asked))
    with answers.from_engine(bundle, asked) as answering:
        return attacked(answering)


if __name__ == "__main__":
    sys.exit(main())
