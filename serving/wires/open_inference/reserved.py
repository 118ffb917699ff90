"""Parameters that the Open Inference Protocol and Triton's extensions keep for themselves: taken or refused as Triton does.

No model here keeps a state, and who comes first is not the client's to say. So a sequence and a priority are read, refused
where they are none, and change nothing, as with every model of Triton's that has no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from certify.strict_json import shown
from serving.errors import InvalidInput

_OWN = "triton_"
EMPTY_FINAL = "triton_enable_empty_final_response"
"""Asks, over gRPC, that the last answer of a stream be told in any case, by an empty one if need be. There is always one
that is not empty.
"""


FINAL = "triton_final_response"
"""Says, in an answer of a stream, whether it is the last to its request."""


def check(parameters: Mapping[str, object], allowed: tuple[str, ...] = ()) -> None:
    """Refuse what Triton refuses: keys of its own but the `allowed`, and values that are none. An absent value (None) is
    what a client's number becomes that its library cannot send.
    """
    for name in parameters:
        if name.startswith(_OWN) and name not in allowed:
            reserved = (
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified"
            )
            raise InvalidInput(reserved)  # in its words, the same on both wires
    if not isinstance(parameters.get("sequence_id"), str):
        _whole("sequence_id", parameters.get("sequence_id"), "a number from 0, or text")
    for name in ("sequence_start", "sequence_end"):
        if not isinstance(parameters.get(name), bool | None):
            raise InvalidInput(f"{name} is {shown(parameters[name])}; expected true or false")
    _whole("priority", parameters.get("priority"), "a number from 0")


def timeout(parameters: Mapping[str, object]) -> float | None:
    """The protocol's own `timeout`, integer microseconds, in seconds; 0 means none."""
    return (_whole("timeout", parameters.get("timeout"), "an integer of microseconds") or 0) / 1e6 or None


def classification(name: str, value: object) -> int:
    """The output parameter `classification`: how many of the best classes are wanted as text; 0 means none."""
    return 0 if value is None else _whole(f"classification of output {shown(name)}", value, "an integer from 0") or 0


def _whole(what: str, value: object, expected: str) -> int | None:
    """A number that cannot be negative; as text, too, for clients that cannot send it otherwise."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise InvalidInput(f"{what} is {shown(value)}; expected {expected}")
    return value
