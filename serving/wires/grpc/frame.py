"""What every gRPC call has, whatever its kind: a request id, a caller, one form of errors, no leaks.

An error is a status with a message of at most 1 KiB (it travels in a trailer of about 8 KiB) and a `google.rpc.Status`
that carries an ErrorInfo, and a RetryInfo where trying again may help.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from serving import metrics
from serving.errors import SEE_LOG, CertserveError, Forbidden, Internal, Unauthenticated
from serving.log import REQUEST_ID
from serving.security.callers import ANONYMOUS, CALLER, LEFT, Callers, joined, of_caller
from serving.wires.trace import Known, known

_log = logging.getLogger("certserve.grpc")
_DETAILS = 1024
_WAY_BACK_S = 0.1
_Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
_Result = TypeVar("_Result")


def answers(
    work: Callable[[Any, _Context], Awaitable[_Result]], callers: Callers | None, needs: str | None
) -> Callable[[Any, _Context], Coroutine[Any, Any, _Result]]:
    """The handler of a call that does `work`: the answer carries the request's id and trace, it is known who asks and that
    they have the scope that it `needs`, if any, and errors are statuses. Without `callers` whoever comes is anonymous.
    """

    async def call(messages: Any, context: _Context) -> _Result:
        fields = _fields(context)
        request = known(fields)
        request.enter()
        context.set_trailing_metadata(request.fields())
        try:
            caller = ANONYMOUS if callers is None else callers.caller(fields)
            CALLER.set(caller)
            if needs is not None:
                caller.must_have(needs)
            found = await work(messages, context)
            if left := LEFT.get():
                context.set_trailing_metadata((*request.fields(), ("ratelimit", left)))
            return found
        except grpc.aio.BaseError:  # the client has gone, or the server has ended: nobody is left to be told
            raise
        except Exception as error:
            refusal = refusal_of(error)
        await _abort(context, refusal, request)

    return call


def time_left(context: _Context) -> float | None:
    """The seconds that the engine may use of the call's own deadline: some are kept for the way back, so that the
    client gets what was proven by then and not a DEADLINE_EXCEEDED.
    """
    left = context.time_remaining()
    return None if left is None else left - min(_WAY_BACK_S, left / 5)


def refusal_of(error: Exception) -> CertserveError:
    """What the client is told of whatever a call came to; what sends it to the log is in the log."""
    if not isinstance(error, CertserveError):
        _log.error("request %s%s failed", REQUEST_ID.get(), of_caller(), exc_info=error)
        return Internal(f"something went wrong in the server; {SEE_LOG}")
    if SEE_LOG in error.message:
        _log.error("request %s%s is refused: %s", REQUEST_ID.get(), of_caller(), error.message)
    return error


async def _abort(context: _Context, error: CertserveError, request: Known) -> NoReturn:
    if isinstance(error, Unauthenticated | Forbidden):
        metrics.REFUSED_CALLERS.labels(error.code).inc()
    code, message, trailers = status(error, request)
    left = LEFT.get()
    await context.abort(code, message, (*trailers, ("ratelimit", left)) if left else trailers)
    raise AssertionError("abort raises")


def status(error: CertserveError, request: Known) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
    """Code, message and trailers of an error."""
    code = grpc.StatusCode[error.code]
    message = _cut(error.message)
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason(type(error)), domain="certserve")]
    if error.retry_after_s is not None:
        delay = Duration(seconds=max(1, round(error.retry_after_s)))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    whole = status_pb2.Status(code=code.value[0], message=message, details=[_packed(each) for each in details])
    return code, message, (*request.fields(), ("grpc-status-details-bin", whole.SerializeToString()))


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def reason(kind: type[CertserveError]) -> str:
    """The error's name as an ErrorInfo has it: UPPER_SNAKE_CASE."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).upper()


def _cut(message: str) -> str:
    data = message.encode(errors="backslashreplace")
    return data.decode() if len(data) <= _DETAILS else data[: _DETAILS - 3].decode(errors="ignore") + "..."


def _fields(context: _Context) -> dict[str, str]:
    return joined((name, value) for name, value in context.invocation_metadata() or () if isinstance(value, str))
