"""`certserve serve`: settings checked, secrets at hand, then one of the two homes of the server until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.bundle import manifests
from serving import ports
from serving.commands import banner
from serving.commands.console import say
from serving.config import SettingError, Settings, declared, explained
from serving.security import exposure, signing
from serving.security.login import login
from serving.security.secret import (
    VARIABLE,
    SecretError,
    key_id,
    loose,
    read_secret,
    read_signing_key,
    secret_file,
    signing_key_file,
)
from serving.security.signing import Signer
from serving.security.tls import tls
from serving.wires.grpc import core


def add(commands: Any) -> None:
    """The command, for the parser of the command line."""
    serve = commands.add_parser("serve", help="serve the bundles of a repository over HTTP and gRPC")
    serve.add_argument("models", type=Path, help="folder of bundles: <name>/<version>/")
    serve.add_argument("--local", action="store_true", help="one process, without Ray")
    serve.add_argument(
        "--strict", action="store_true", help="refuse to listen beyond this host without TLS, or to whoever comes"
    )
    for each in declared():
        option, said = "--" + each.name.replace("_", "-"), explained(each).replace("%", "%%")
        if isinstance(each.default, bool):
            serve.add_argument(option, action=argparse.BooleanOptionalAction, default=each.default, help=said)
            continue
        kind = Path if each.name.endswith("_file") else type(each.default)
        serve.add_argument(option, type=kind, default=each.default, help=said)
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    values = {each.name: getattr(options, each.name) for each in declared()} | {"models": options.models.resolve()}
    # Before any file is made or read: what is refused leaves nothing behind.
    settings = ports.settled(Settings.from_mapping(values))
    _tell_what_is_open(settings, options.strict)
    # Resolved here, so that every process reads the same file.
    secret = secret_file(options.noise_secret_file or _from_environment()).resolve()
    signing_key = _signing_key(options.signing_key_file)
    for file in (secret, signing_key):
        if file is not None and (warning := loose(file)):
            say(f"warning: {warning}")
    settings = replace(settings, noise_secret_file=secret, signing_key_file=signing_key, **_resolved(settings))
    if options.local:  # Ray has a core of its own, which reads the same environment
        core.choose()
    login(settings)  # before anything starts, for files that cannot be read
    tls(settings)
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop(options.local)) as runner:
        runner.run(_serve_until_told(settings, options.local))


def _loop(local: bool) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What answers in this process: uvloop where there is one, since both wires take a fifth less time by it."""
    if local:
        with contextlib.suppress(ModuleNotFoundError):
            import uvloop

            return uvloop.new_event_loop
    return None


def _signing_key(given: Path | None) -> Path | None:
    """The file of the signing key; where none is given and none can be kept, the server does without receipts."""
    try:
        return signing_key_file(given).resolve()
    except SecretError as error:
        if given is not None:
            raise
        say(f"no receipts will be given: {error}")
        return None


def _tell_what_is_open(settings: Settings, strict: bool) -> None:
    """Raise `SettingError` instead where that is asked for."""
    for each in exposure.left_open(settings):
        if strict:
            raise SettingError(f"it would listen on {settings.host}, and {each}; or leave --strict out")
        say(f"warning: it listens on {settings.host}, and {each}")


def _resolved(settings: Settings) -> dict[str, Any]:
    """What says who may come, by absolute paths: Ray's processes have other working folders."""
    tokens = settings.jwt_keys
    names = ("keys_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file")
    return {
        **{name: file and file.absolute() for name in names for file in [getattr(settings, name)]},
        "jwt_keys": tokens if not tokens or "://" in tokens else str(Path(tokens).absolute()),
    }


def _from_environment() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


async def _serve_until_told(settings: Settings, local: bool) -> None:
    from serving.deployments.first_answer import through_each_wire

    stop, started = asyncio.Event(), asyncio.Event()
    _heed_signals(stop, started)
    assert settings.noise_secret_file is not None
    say(f"noise key id {key_id(read_secret(settings.noise_secret_file))}")
    if settings.signing_key_file is not None:
        public = Signer(read_signing_key(settings.signing_key_file)).public
        say(f"receipts are signed with key id {signing.key_id(public)}, public key {public.hex()}")
    served = manifests(settings.models)  # before anything starts, for a folder that is no repository
    try:
        async with _home(settings, local) as samples:
            gc.freeze()  # what is loaded stays: to look through it for garbage would hold up every request for 40 ms
            await through_each_wire(settings, samples, say)
            started.set()
            say(banner.text(settings, served, _program()))
            await stop.wait()
    except asyncio.CancelledError:
        say("stopped before it was ready")
        os._exit(0)  # a thread that proves a model would be waited for


def _program() -> str:
    """How the user called this, for a shell."""
    called = sys.argv[0]
    return f"{shlex.quote(sys.executable)} -m serving.commands.cli" if called.endswith(".py") else shlex.quote(called)


def _heed_signals(stop: asyncio.Event, started: asyncio.Event) -> None:
    """Ctrl-C, SIGTERM and the end of the terminal end a start at once, by cancelling the running task; afterwards they set
    `stop`. Under `nohup` the terminal's end is ignored, and stays so.
    """
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    assert serving is not None

    def told() -> None:
        if not started.is_set() and not stop.is_set():
            serving.cancel()
        stop.set()

    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    for number in (signal.SIGINT, signal.SIGTERM, *hangup):
        loop.add_signal_handler(number, told)


def _home(settings: Settings, local: bool) -> contextlib.AbstractAsyncContextManager[Any]:
    assert settings.noise_secret_file is not None
    if local:
        from serving.deployments.local import running

        return running(settings, read_secret(settings.noise_secret_file), say)
    from serving.deployments.ray_home import running as running_on_ray

    return running_on_ray(settings, say)
