"""Whether two parts of the server speak of one classifier: the same bundle, run by the same runtime. Pure.

Gateways and engines read the repository on their own, each when it starts, and a deployment may span unlike processors.
So a task names its bundle and runtime, a reply names those that made it, and whoever finds others refuses: a certificate
speaks of one function.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from serving.errors import Unavailable
from serving.messages import Task

Agree = Callable[[str, str], str]
"""From "model/version" and a runtime's description to the one that its deployment has: the first that was ever given."""


class OtherRuntime(RuntimeError):
    """A replica's runtime is not the one of its deployment."""


def refuse_others(task: Task, wanted: str, digest: str, runtime: str) -> None:
    """Raise `Unavailable`, saying what differs, unless this bundle is the one that the task names, and this runtime the
    `wanted` one, if there is one.
    """
    if task.digest == digest and (not wanted or wanted == runtime):
        return
    key = f"{task.model}/{task.version}"
    found = other_digest(key, task.digest, digest) or other_runtime(key, wanted, runtime)
    if found:
        raise Unavailable(f"{found}; try again", retry_after_s=1)


def other_digest(key: str, wanted: str, found: str | None) -> str:
    """What differs, empty if nothing does: `found` is the digest of an engine's bundle, None if it has none."""
    if found == wanted:
        return ""
    has = f"this engine's is {found}" if found else "this engine has none"
    return (
        f"{key}: the gateway's bundle is {wanted}, {has}: the folder was exported anew after one of them started; restart"
        " all servers"
    )


def other_runtime(key: str, wanted: str, found: str) -> str:
    """What differs, empty if nothing does or `wanted` is empty: both are descriptions of runtimes."""
    if not wanted or found == wanted:
        return ""
    here, there = set(found.split()), set(wanted.split())
    more = [
        f"{said} {' '.join(sorted(words))}" for said, words in (("has", here - there), ("lacks", there - here)) if words
    ]
    return (
        f"{key}: the deployment's runtime is {wanted!r}, this engine's is {found!r} ({' and '.join(more) or 'reordered'}):"
        " run all servers in one version on processors of one kind, or say which runtime is right: --runtime"
    )


def differing(digests: Mapping[str, str], held: Mapping[str, str]) -> str:
    """What differs between a gateway's bundles and an engine's, both from "model/version" to digest; empty if nothing."""
    return "; ".join(found for key in digests if (found := other_digest(key, digests[key], held.get(key))))


def join(runtimes: Mapping[str, str], agree: Agree) -> None:
    """Raise `OtherRuntime`, saying what differs, unless the deployment has these runtimes, from "model/version"."""
    for key, runtime in runtimes.items():
        if found := other_runtime(key, agree(key, runtime), runtime):
            raise OtherRuntime(found)
