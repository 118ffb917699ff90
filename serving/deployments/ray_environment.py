"""What the processes of a Ray of our own read from their environment.

On Kubernetes the cluster is not ours, and its chart sets the variables of `FAST`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

FAST = {
    # A replica's code, its calls of others and its wires share one loop; calls between replicas go by gRPC.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
    # A task or a share may be larger than the 4 MiB that Serve lets pass between replicas; what may come in is limited
    # at the wires.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(2**31 - 1),
    # Without it Serve takes what a replica prints for INFO, and breaks tracebacks.
    "RAY_SERVE_LOG_TO_STDERR": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_ALONE = {
    "RAY_AUTH_MODE": "token",
    # One host: Ray's node is 127.0.0.1, where everything listens, and never an address of the network.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Ray's own figures, on a port for each of its processes; ours are served by us.
    "RAY_enable_metrics_collection": "0",
}
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "ftp_proxy"}


def environment(folder: Path) -> dict[str, str]:
    """The variables for the processes of a Ray of our own, which keep their temporary files in `folder`: this process's,
    without any proxy for the internet, and what `FAST` names where it does not say otherwise. A token of this run's own
    keeps others out of Ray's ports.
    """
    own = {name: value for name, value in os.environ.items() if not _foreign(name)}
    return FAST | own | _ALONE | {"RAY_AUTH_TOKEN": secrets.token_hex(32), "TMPDIR": str(folder)}


def _foreign(name: str) -> bool:
    """What would lead Ray's processes past each other: a proxy between them, or the address of another cluster."""
    return name.lower() in _PROXIES or name in ("RAY_ADDRESS", "RAY_TMPDIR")
