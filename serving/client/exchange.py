"""What is sent, waited for and sent again, as steps that a driver takes: no socket and no clock is here.

Steps are generators. They yield an `Outgoing` and are given the `Received`, or have the error of the transport thrown in; or
they yield a `Pause`. What they return is the result.

Only what is safe is sent again: a request that never left (the connection was refused), and one that the server refused
before it worked on it and said when to come back (429 and 503 with Retry-After). No pause goes beyond the time that a
request has.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from serving import errors
from serving.client.answers import LiveEvent, Predicted
from serving.client.asking import Body, texts
from serving.errors import CertserveError, Internal, InvalidInput, Unavailable

_AGAIN = (429, 503)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
SLACK_S = 5.0
"""How long a client waits beyond the deadline that it gave the server, so that the answer is the server's."""


class NotSent(Exception):
    """The request never left: no connection could be had."""


class Broken(Exception):
    """The connection failed after the request may have left."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request, and the seconds that it may take."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""
    timeout_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Received:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Steps = Generator[Outgoing | Pause, Received | None, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTerms:
    """How a client asks: `timeout_s` for a request without a deadline, and how often what is safe is sent again."""

    url: str
    timeout_s: float
    retries: int


def models(terms: ServerTerms) -> Steps:
    """The names of the models."""
    document = yield from _document(terms, Outgoing("GET", "/v1/models", timeout_s=terms.timeout_s))
    found = document.get("models")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise _none_of_ours(terms)
    return found


def only_model(terms: ServerTerms) -> Steps:
    """The name of the one model that is served. Raises `InvalidInput` where there are several."""
    found = yield from models(terms)
    if len(found) != 1:
        raise InvalidInput(f"the server has {len(found)} models; name one of {', '.join(found)[:300]}")
    return found[0]


def shape(terms: ServerTerms, model: str, version: str | None) -> Steps:
    """The shape of a model's input."""
    path = f"/v2/models/{quote(model, safe='')}" + (f"/versions/{quote(version, safe='')}" if version else "")
    document = yield from _document(terms, Outgoing("GET", path, timeout_s=terms.timeout_s))
    try:
        return tuple(int(size) for size in document["inputs"][0]["shape"][1:])
    except (KeyError, IndexError, TypeError, ValueError):
        raise _none_of_ours(terms) from None


def predictions(
    terms: ServerTerms, model: str, version: str | None, body: Body, options: Mapping[str, object]
) -> Steps:
    """The whole document of an answer."""
    document = yield from _document(terms, asking(terms, model, version, body, options))
    wanted = {"receipt"} if options.get("receipt") is True else set()
    rows = document.get("predictions")
    if (
        not isinstance(rows, list)
        or not rows
        or not all(isinstance(row, dict) and wanted <= row.keys() for row in rows)
    ):
        raise _none_of_ours(terms)
    return document


def asking(terms: ServerTerms, model: str, version: str | None, body: Body, options: Mapping[str, object]) -> Outgoing:
    """The request of a prediction."""
    path = f"/v1/models/{quote(model)}" + (f"/versions/{quote(version)}" if version else "") + ":predict"
    return Outgoing(
        "POST", path, texts(options), {"Content-Type": body.content_type}, body.content, _allowed_s(terms, options)
    )


def read(terms: ServerTerms, document: Mapping[str, Any]) -> list[Predicted]:
    """The predictions of a document. Raises `Internal` where it is none of a certserve server."""
    try:
        return [Predicted.of(row) for row in document["predictions"]]
    except (KeyError, TypeError, ValueError):
        raise _none_of_ours(terms) from None


def refusal(received: Received) -> CertserveError:
    """The error that an answer of another status than 200 is."""
    try:
        message = str(json.loads(received.content)["error"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {received.status} without a message of certserve's; is it one?"
    kinds = {kind.http_status: kind for kind in CertserveError.__subclasses__()}
    return kinds.get(received.status, errors.Internal)(message, retry_after_s=_hint_s(received))


class EventReader:
    """Server-sent events of rows, from lines; keeps the best radius of each row."""

    def __init__(self, terms: ServerTerms) -> None:
        self._terms = terms
        self._kind = "message"
        self._data: list[str] = []
        self._best: dict[int, float] = {}

    def line(self, line: str) -> LiveEvent | None:
        """The event that ends with this line, if one does. Raises the error that the server sends instead."""
        if line:
            name, _, text = line.partition(":")
            if name == "event":
                self._kind = text.removeprefix(" ")
            elif name == "data":
                self._data.append(text.removeprefix(" "))
            return None
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "message", []
        return self._event(kind, data) if data else None

    def _event(self, kind: str, data: str) -> LiveEvent:
        try:
            document = json.loads(data)
            if kind == "error":
                received = Received(int(document.get("status", 500)), {}, data.encode())
                raise refusal(received)
            prediction, row = Predicted.of(document["prediction"]), int(document["row"])
        except (ValueError, KeyError, TypeError):
            raise _none_of_ours(self._terms) from None
        return self.event(kind, row, prediction)

    def event(self, kind: str, row: int, prediction: Predicted) -> LiveEvent:
        """An event with the best radius of its row so far."""
        radius = prediction.certificate.radius if prediction.certificate else 0.0
        self._best[row] = max(self._best.get(row, 0.0), radius)
        return LiveEvent(kind, row, prediction, self._best[row])


def _document(terms: ServerTerms, send: Outgoing) -> Generator[Outgoing | Pause, Received | None, dict[str, Any]]:
    received = yield from _answered(terms, send)
    try:
        document = json.loads(received.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _none_of_ours(terms)
    return document


def _answered(terms: ServerTerms, send: Outgoing) -> Generator[Outgoing | Pause, Received | None, Received]:
    """The answer of status 200, after as many attempts as are allowed and sensible."""
    left_s = send.timeout_s
    for attempt in range(terms.retries + 1):
        pause_s: float | None = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
        try:
            received = yield replace(send, timeout_s=left_s)
        except NotSent as error:
            failure: CertserveError = unreached(terms, error)
        except Broken as error:
            raise unreached(terms, error) from None
        else:
            assert received is not None
            if received.status == 200:
                return received
            failure = refusal(received)
            pause_s = failure.retry_after_s if received.status in _AGAIN else None
        if pause_s is None or attempt == terms.retries or pause_s >= left_s:
            raise failure
        yield Pause(pause_s)
        left_s -= pause_s
        send = _shortened(send, pause_s)
    raise AssertionError("an attempt either returns or raises")


def _shortened(send: Outgoing, seconds: float) -> Outgoing:
    """The same request with what is left of its deadline."""
    if "deadline_ms" not in send.query or not send.query["deadline_ms"].isdecimal():
        return send
    left = max(1, int(send.query["deadline_ms"]) - round(1000 * seconds))
    return replace(send, query={**send.query, "deadline_ms": str(left)})


def unreached(terms: ServerTerms, error: Exception) -> Unavailable:
    """Said where no answer came."""
    return Unavailable(f"{terms.url} could not be reached ({error or type(error).__name__}); is the server up?")


def is_here(host: str) -> bool:
    """Whether a host is this one: then a proxy that the environment names is not asked, for it would seek itself."""
    host = host.strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def _allowed_s(terms: ServerTerms, options: Mapping[str, object]) -> float:
    asked = options.get("deadline_ms")
    try:
        deadline_s = float(str(asked)) / 1000
    except ValueError:
        return terms.timeout_s
    return min(max(deadline_s, 0.0), 86_400.0) + SLACK_S  # no server allows more than a day


def _hint_s(received: Received) -> float | None:
    hint = next((value for name, value in received.headers.items() if name.lower() == "retry-after"), "")
    return float(hint) if hint.isdecimal() and len(hint) < 6 else None


def _none_of_ours(terms: ServerTerms) -> Internal:
    return Internal(f"{terms.url} answered with something else than predictions; is it a certserve server?")
