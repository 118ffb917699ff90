"""How gRPC's core waits for sockets, chosen before it is imported: it asks the environment, once.

By default what comes at a socket goes through a thread that polls, one of a pool, and the one that waits for calls before it
reaches the loop. The core's older way, kept beside it, lets the thread that waits for calls poll the sockets itself, so a
plain call wakes fewer threads.
"""

from __future__ import annotations

import os

VARIABLE = "GRPC_EXPERIMENTS"
# No other name: one that the core does not know would be told to the operator at each start.
_OFF = ("event_engine_listener", "event_engine_client")


def choose() -> None:
    """Have the core poll in the thread that waits, unless the operator's environment says what it is to do."""
    os.environ.setdefault(VARIABLE, ",".join(f"-{each}" for each in _OFF))
