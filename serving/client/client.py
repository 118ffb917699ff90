"""Two drivers of the same steps: `Client` blocks, `AsyncClient` awaits. All that differs is who waits, and how.

A client keeps a pool of `connections`; more calls at once wait for one of them, within their time. Without a deadline of its
own a request may take `timeout_s`; with `deadline_ms` as long as that and five seconds. Connecting may take `connect_s`.
`retries` says how often what is safe is sent again: see `serving.client.exchange`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from serving.client import exchange
from serving.client.answers import LiveEvent, Predicted
from serving.client.asking import Askable, Body, body_of, needs_shape
from serving.client.exchange import Broken, EventReader, NotSent, Outgoing, Pause, Received, ServerTerms, Steps
from serving.client.trust import Trust
from serving.errors import InvalidInput

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, ImportError, OSError, ValueError)
"""The last three: a proxy in the environment that httpx cannot use, or certificates that cannot be read."""


class _Settings:
    """What both clients are told, and what they send by it."""

    _kind: Any
    _http: Any

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        model: str | None = None,
        *,
        version: str | None = None,
        key: str | None = None,
        timeout_s: float = 30.0,
        connect_s: float = 5.0,
        retries: int = 2,
        connections: int = 16,
        ca: str | Path | None = None,
        certificate: str | Path | None = None,
        certificate_key: str | Path | None = None,
    ) -> None:
        """`model` may be left out where one is served. `key` is sent as a bearer token; the last three are `Trust`.

        Raises `InvalidInput` for what is no URL, and `Unavailable` where the environment names a proxy of no use.
        """
        self._terms = ServerTerms(url=_checked(url), timeout_s=timeout_s, retries=retries)
        self._model, self._version = model, version
        self._shape: tuple[int, ...] | None = None
        self._connect_s = connect_s
        trust = Trust(ca=ca, certificate=certificate, certificate_key=certificate_key)
        try:
            self._http = self._kind(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                limits=httpx.Limits(max_connections=connections),
                verify=trust.verify(),
                trust_env=not exchange.is_here(httpx.URL(url).host),
            )
        except _FAILURES as error:
            raise exchange.unreached(self._terms, error) from None

    def _predictions(self, given: Askable, options: dict[str, Any]) -> Steps:
        body = yield from self._body(given)
        document = yield from exchange.predictions(self._terms, self._model or "", self._version, body, options)
        return exchange.read(self._terms, document)

    def _document(self, body: Body, options: dict[str, Any]) -> Steps:
        yield from self._named()
        return (yield from exchange.predictions(self._terms, self._model or "", self._version, body, options))

    def _body(self, given: Askable) -> Steps:
        if not isinstance(given, bytes) and not needs_shape(given):
            body_of(given)  # a file of no use is said before anybody is asked
        yield from self._named()
        if needs_shape(given) and self._shape is None:
            self._shape = yield from exchange.shape(self._terms, self._model or "", self._version)
        return body_of(given, self._shape)

    def _named(self) -> Steps:
        if self._model is None:
            self._model = yield from exchange.only_model(self._terms)

    def _stream(self, body: Body, options: dict[str, Any]) -> dict[str, Any]:
        send = exchange.asking(self._terms, self._model or "", self._version, body, options)
        headers = {**send.headers, "Accept": "text/event-stream"}
        return {**self._request(send), "headers": headers}

    def _request(self, send: Outgoing) -> dict[str, Any]:
        return {
            "method": send.method,
            "url": self._terms.url.rstrip("/") + send.path,
            "params": dict(send.query),
            "headers": dict(send.headers),
            "content": send.content,
            "timeout": httpx.Timeout(send.timeout_s, connect=min(self._connect_s, send.timeout_s)),
        }


class Client(_Settings):
    """A client that blocks. Threads may share it; close it, or use it in a `with`."""

    _kind = httpx.Client
    _http: httpx.Client

    def predict(self, given: Askable, **options: Any) -> Predicted:
        """The answer to one input: the name of a file, the bytes of a picture, or an array of the model's shape.

        Options are those of the wire, such as `target_radius=0.5`. Raises `CertserveError`, or `OSError` for a file.
        """
        return _one(self.predict_rows(given, **options))

    def predict_rows(self, given: Askable, **options: Any) -> list[Predicted]:
        """The answers to all rows of a file or an array, in one request."""
        found: list[Predicted] = self._run(self._predictions(given, options))
        return found

    def document(self, body: bytes, content_type: str, **options: Any) -> dict[str, Any]:
        """The whole answer document for a body as it is sent."""
        found: dict[str, Any] = self._run(self._document(Body(body, content_type, None), options))
        return found

    def watch(self, given: Askable, **options: Any) -> Iterator[LiveEvent]:
        """What is said of the input until its answer, as the certificate tightens; to stop ends the work. Not sent again."""
        body: Body = self._run(self._body(given))
        reader = EventReader(self._terms)
        try:
            with self._http.stream(**self._stream(body, options)) as response:
                if not _streams(response):
                    yield from _finals(self._terms, reader, _received(response, response.read()))
                    return
                for line in response.iter_lines():
                    if event := reader.line(line):
                        yield event
        except httpx.HTTPError as error:
            raise exchange.unreached(self._terms, error) from None

    def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    outcome = self._take(step)
                except (NotSent, Broken) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            return end.value

    def _take(self, step: Outgoing | Pause) -> Received | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            response = self._http.request(**self._request(step))
        except _FAILURES as error:
            raise _said(error) from None
        return _received(response, response.content)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class AsyncClient(_Settings):
    """A client for asyncio; close it, or use it in an `async with`."""

    _kind = httpx.AsyncClient
    _http: httpx.AsyncClient

    async def predict(self, given: Askable, **options: Any) -> Predicted:
        """See `Client.predict`."""
        return _one(await self.predict_rows(given, **options))

    async def predict_rows(self, given: Askable, **options: Any) -> list[Predicted]:
        """See `Client.predict_rows`."""
        found: list[Predicted] = await self._run(self._predictions(given, options))
        return found

    async def predict_many(self, inputs: Sequence[Askable], at_once: int = 8, **options: Any) -> list[Predicted]:
        """The answers to many inputs, each a request of its own, `at_once` at a time; the first failure ends it."""
        gate = asyncio.Semaphore(at_once)

        async def one(given: Askable) -> Predicted:
            async with gate:
                return await self.predict(given, **options)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in inputs]
        return [task.result() for task in tasks]

    async def watch(self, given: Askable, **options: Any) -> AsyncIterator[LiveEvent]:
        """See `Client.watch`."""
        body: Body = await self._run(self._body(given))
        reader = EventReader(self._terms)
        try:
            async with self._http.stream(**self._stream(body, options)) as response:
                if not _streams(response):
                    for final in _finals(self._terms, reader, _received(response, await response.aread())):
                        yield final
                    return
                async for line in response.aiter_lines():
                    if event := reader.line(line):
                        yield event
        except httpx.HTTPError as error:
            raise exchange.unreached(self._terms, error) from None

    async def _run(self, steps: Steps) -> Any:
        try:
            step = next(steps)
            while True:
                try:
                    outcome = await self._take(step)
                except (NotSent, Broken) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            return end.value

    async def _take(self, step: Outgoing | Pause) -> Received | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            response = await self._http.request(**self._request(step))
        except _FAILURES as error:
            raise _said(error) from None
        return _received(response, response.content)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()


def _one(found: list[Predicted]) -> Predicted:
    if len(found) != 1:
        raise InvalidInput(f"expected one input, and this holds {len(found)}; predict_rows answers them all")
    return found[0]


def _streams(response: httpx.Response) -> bool:
    return response.status_code == 200 and response.headers.get("Content-Type", "").startswith("text/event-stream")


def _finals(terms: ServerTerms, reader: EventReader, received: Received) -> Iterator[LiveEvent]:
    """The events of an answer that came whole: its refusal, or the last event of each row."""
    if received.status != 200:
        raise exchange.refusal(received)
    for row, prediction in enumerate(exchange.read(terms, httpx.Response(200, content=received.content).json())):
        yield reader.event("final", row, prediction)


def _received(response: httpx.Response, content: bytes) -> Received:
    return Received(response.status_code, dict(response.headers), content)


def _said(error: Exception) -> NotSent | Broken:
    return NotSent(str(error)) if isinstance(error, _NOT_SENT) else Broken(str(error) or type(error).__name__)


def _checked(url: str) -> str:
    """The server's URL, to be continued by a path; what httpx would refuse without a reason, or later, is refused here."""
    try:
        parsed = httpx.URL(url)
        usable = parsed.scheme in ("http", "https") and bool(parsed.host) and (parsed.port or 1) < 2**16
        usable = usable and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError, TypeError):
        usable = False
    if not usable:
        raise InvalidInput(f"{url!r:.200} is no URL of a server; expected http://host:port or https://host:port")
    return url
