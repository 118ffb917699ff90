"""What a Ray of our own is started with: the processes of Ray read it from their environment, the first when it imports ray.

On Kubernetes the cluster is not ours, and its chart sets the same variables.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

FAST = {
    # HAProxy with throughput mode answers ten to twenty times as many requests as the default proxy.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # A task or a share may be larger than the 4 MiB that Serve lets pass between replicas; what may come in is limited
    # at the wires.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    # Without it Serve takes what a replica prints for INFO, and breaks tracebacks.
    "RAY_SERVE_LOG_TO_STDERR": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # How long a replica that is to stop goes on answering while HAProxy learns of it.
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
}


def prepare() -> Path:
    """Set the environment for a Ray of our own and return its scratch folder. To be called before ray is imported.

    Ray's control ports open on every interface: a token of this run's own keeps others out. HAProxy's files and the
    counts of all processes lie in the scratch folder, which no other server shares.
    """
    scratch = Path(tempfile.mkdtemp(prefix="certserve-"))
    for name, value in FAST.items():
        os.environ.setdefault(name, value)
    os.environ.update(
        {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(scratch / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(scratch / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(scratch),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(scratch / "server-state"),
        }
    )
    return scratch
