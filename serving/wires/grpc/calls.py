"""How calls come in: by which route, when their message is read, and what becomes of those that send none.

grpc.aio reads the message of a unary call before it calls anybody: a call that ends without one is never answered, one that
never sends it is never given up, and bytes that are no message are answered with a trace in the log. So every call is taken
as a stream here, and its message is read inside the frame that all calls have.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from serving.errors import DeadlinePassed, MalformedMessage, NotOffered, Unavailable
from serving.security.callers import Callers
from serving.wires.grpc import parts
from serving.wires.grpc.frame import answers

_IN_PROGRESS, _IDLE = 1_024, 4_096  # calls at most; those that watch or have sent no message count apart
_LAST_S = 1.0  # for the messages of calls that are on their way when the server stops
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Handler: TypeAlias = grpc.RpcMethodHandler
_Method: TypeAlias = Callable[[Any, _Context], Any]
_Read: TypeAlias = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Incoming:
    """The messages of a call that has many, as they come, which `accepted` encloses the work on each of."""

    messages: AsyncGenerator[Any, None]
    accepted: Callable[[], contextlib.AbstractContextManager[None]]


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The routes of a server: give it to the generated `add_...Servicer_to_server`, as if it were the server.

    A method that a servicer does not define, like one that nobody knows, is `NotOffered`. A unary call whose message has
    not come within `message_s` seconds is given up. A method of many answers that is a coroutine, and writes to its context,
    is worked at as a unary one, and each message of a conversation by itself; one that is a generator only watches.
    A message's numbers of varying size may take `most_numbers` bytes.
    A server that stops goes on to answer the methods `to_the_last`.
    `callers` tells who asks. `needs` has the scope of every method, None for those that are for everybody; to take in a
    method that it does not name is an error.
    """

    def __init__(
        self,
        message_s: float,
        needs: Mapping[str, str | None],
        to_the_last: Collection[str] = (),
        callers: Callers | None = None,
        most_numbers: int = 2**22,
    ) -> None:
        self._message_s = message_s
        self._most_numbers = most_numbers
        self._to_the_last = to_the_last
        self._callers = callers
        self._needs = needs
        self._routes: dict[str, _Handler] = {}
        self.idle: dict[asyncio.Timeout, float] = {}
        self._accepted = 0
        self._drained = asyncio.Event()
        self.stopping = False

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Nothing: the same handlers come by their names, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, _Handler]) -> None:
        """Take in the methods of one service."""
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            if (route := self._route(handler, method)) is not None:
                self._routes[method] = route

    def service(self, details: grpc.HandlerCallDetails) -> _Handler:
        """See `grpc.GenericRpcHandler`."""
        return self._routes.get(details.method) or _not_offered(details.method, self._callers)

    async def drain(self, seconds: float) -> None:
        """The server stops: refuse calls that come, give up those that wait or only watch, and return once those that
        were accepted are answered, or after `seconds`.
        """
        self.stopping = True
        now = asyncio.get_running_loop().time()
        for limit, last_s in self.idle.items():
            limit.reschedule(now + last_s)
        self._drained.clear()
        if self._accepted:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), seconds)

    def _route(self, handler: _Handler, method: str) -> _Handler | None:
        read, write = _reader(handler.request_deserializer, self._most_numbers), handler.response_serializer
        if inspect.iscoroutinefunction(handler.unary_unary):
            work = self._unary(handler.unary_unary, method in self._to_the_last)
            return grpc.stream_unary_rpc_method_handler(self._answers(work, method), read, write)
        if inspect.iscoroutinefunction(handler.unary_stream):
            work = self._unary(handler.unary_stream, to_the_last=False)
            return grpc.stream_stream_rpc_method_handler(self._answers(work, method), read, write)
        if inspect.iscoroutinefunction(handler.stream_stream):
            work = self._converse(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(self._answers(work, method), read, write)
        if inspect.isasyncgenfunction(handler.unary_stream):
            work = self._watch(handler.unary_stream)
            return grpc.stream_stream_rpc_method_handler(self._answers(work, method), read, write)
        if inspect.isasyncgenfunction(handler.stream_stream):
            work = self._talk(handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(self._answers(work, method), read, write)
        return None

    def _answers(self, work: _Method, method: str) -> _Method:
        if method not in self._needs:
            raise ValueError(f"nobody has said which scope {method} needs; say it where the methods' scopes are")
        needs = self._needs[method]
        return answers(work, None if needs is None else self._callers, needs)

    def _unary(self, method: _Method, to_the_last: bool) -> _Method:
        async def work(_: Any, context: _Context) -> Any:
            message = await self._message(context)
            with self._accepting(to_the_last):
                return await method(message, context)

        return work

    def _accepting(self, to_the_last: bool = False) -> contextlib.AbstractContextManager[None]:
        """While something is worked at that was accepted: a server that stops waits for it."""
        if self.stopping and not to_the_last:
            raise _leaving()
        if self._accepted >= _IN_PROGRESS and not to_the_last:
            raise _full(f"{_IN_PROGRESS} calls are in progress, as many as one server takes; try again")
        return self

    def __enter__(self) -> None:
        self._accepted += 1

    def __exit__(self, *_: object) -> None:
        self._accepted -= 1
        if not self._accepted:
            self._drained.set()

    def _converse(self, method: _Method) -> _Method:
        async def work(_: Any, context: _Context) -> None:
            await method(Incoming(self._messages(context), self._accepting), context)

        return work

    async def _messages(self, context: _Context) -> AsyncGenerator[Any, None]:
        while True:
            async with self._idling(None, 0.0):
                message = await context.read()
            if message is grpc.aio.EOF:
                return
            yield message

    def _watch(self, method: _Method) -> _Method:
        async def work(_: Any, context: _Context) -> None:
            message = await self._message(context)
            async with self._idling(None, 0.0):
                async for response in method(message, context):
                    await context.write(response)

        return work

    def _talk(self, method: _Method) -> _Method:
        async def work(messages: Any, context: _Context) -> None:
            async with self._idling(None, 0.0):
                async for response in method(messages, context):
                    await context.write(response)

        return work

    async def _message(self, context: _Context) -> Any:
        """The message of a unary call. It is answered as soon as that is there, whether or not the client has ended."""
        try:
            async with self._idling(self._message_s, _LAST_S):
                message = await context.read()
        except TimeoutError:
            raise DeadlinePassed(f"no message came within {self._message_s:g} s; send it with the call") from None
        if message is grpc.aio.EOF:
            raise MalformedMessage("the call ended without a message; expected one")
        return message

    def _idling(self, seconds: float | None, last_s: float) -> _Idling:
        """While nothing that was accepted is worked at, which may last `seconds`: a server that stops waits `last_s`."""
        if len(self.idle) >= _IDLE:
            raise _full(f"{_IDLE} calls wait for their message or watch, as many as one server takes; try again")
        return _Idling(self, seconds, last_s)


class _Idling:
    """See `Calls._idling`."""

    __slots__ = ("_calls", "_last_s", "_limit")

    def __init__(self, calls: Calls, seconds: float | None, last_s: float) -> None:
        self._calls, self._last_s = calls, last_s
        self._limit = asyncio.timeout(last_s if calls.stopping else seconds)

    async def __aenter__(self) -> None:
        self._calls.idle[self._limit] = self._last_s
        await self._limit.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._calls.idle[self._limit]
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError:
            if self._calls.stopping:
                raise _leaving() from None
            raise


def _reader(deserialize: Any, most_numbers: int) -> _Read:
    kind = deserialize.__self__.DESCRIPTOR  # of the message whose `FromString` it is

    def read(data: bytes) -> Any:
        parts.check(data, kind, most_numbers)
        try:
            return deserialize(data)
        except DecodeError:
            raise MalformedMessage(
                f"the {len(data)} bytes of the message cannot be parsed; expected the protobuf message of this method"
            ) from None

    return read


def _not_offered(method: str, callers: Callers | None) -> _Handler:
    async def refuse(_: Any, context: _Context) -> None:
        raise NotOffered(f"{method!r:.120} is not offered here; reflection lists what is")

    return grpc.stream_unary_rpc_method_handler(answers(refuse, callers, None))


def _full(text: str) -> Unavailable:
    return Unavailable(text, retry_after_s=1)


def _leaving() -> Unavailable:
    return Unavailable("the server is stopping; try again elsewhere", retry_after_s=1)
