"""Every setting of the server, read once by the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost at most, whatever it asks for."""

    max_body_bytes: int = 64 * 2**20
    max_rows: int = 1_024
    max_draws: int = 100_000
    max_deadline_ms: int = 60_000
    max_pending_draws: int = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the server listens, what it serves and with what."""

    models: Path
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    noise_secret_file: Path | None = None
    provider: str = "cpu"
    threads: int = 0
    gateways: int = 1
    engines: int = 1
    limits: Limits = Limits()
