"""Which threads the system serves first where processors are short: the loop before all that works beside it.

Threads of one rank take turns of some milliseconds. The loop lets others in many times while it answers one health check,
and would wait for a turn of each busy thread every time.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

_NICENESS = 10


def give_way() -> None:
    """Have the calling thread served after those that do not. There is no way back."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
