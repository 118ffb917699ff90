"""Every setting of the server, read once: from the command line, or from the arguments of a Serve configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from certify.anytime import MAX_DRAWS


class SettingError(ValueError):
    """A setting is unknown or cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost at most, whatever it asks for.

    `max_buffered_bytes` is what one process keeps of all requests that are not answered yet; one request may have half.
    """

    max_body_bytes: int = 64 * 2**20
    max_buffered_bytes: int = 768 * 2**20
    max_rows: int = 1_024
    max_draws: int = 100_000
    max_deadline_ms: int = 60_000
    max_pending_draws: int = 2_000_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise SettingError(f"{field.name} must be at least 1; got {getattr(self, field.name)}")
        if self.max_draws > MAX_DRAWS:
            raise SettingError(f"max_draws must be at most {MAX_DRAWS}, where bounds are proven; got {self.max_draws}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the server listens, what it serves and with what.

    `models` the repository; `provider` cpu, cuda or tensorrt; `threads` of each engine, 0 for one a core; `gateways` and
    `engines` are replicas under Ray. Without a `signing_key_file` no receipts are given.
    """

    models: Path
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    noise_secret_file: Path | None = None
    signing_key_file: Path | None = None
    provider: str = "cpu"
    threads: int = 0
    gateways: int = 1
    engines: int = 1
    limits: Limits = Limits()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Settings and limits by name from one flat mapping; an unknown name is refused, so is a missing `models`."""
        own = {field.name for field in fields(cls)} - {"limits"}
        limits = {field.name for field in fields(Limits)}
        unknown = sorted(set(values) - own - limits)
        if unknown or "models" not in values:
            what = f"unknown setting {', '.join(unknown)}" if unknown else "the setting models is missing"
            raise SettingError(f"{what}; known are {', '.join(sorted(own | limits))}")
        chosen: dict[str, Any] = {name: values[name] for name in own & set(values)}
        for name in ("models", "noise_secret_file", "signing_key_file"):
            if chosen.get(name) is not None:
                chosen[name] = Path(chosen[name])
        return cls(**chosen, limits=Limits(**{name: values[name] for name in limits & set(values)}))
