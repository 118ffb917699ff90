"""Every setting of the server, read once: from the command line, or from the arguments of a Serve configuration file.

What a setting means and what it may be stands beside it, and is checked whichever way it came. `serve --help` prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from certify.bounds.anytime import MAX_DRAWS

_LARGEST = 2**31 - 1
"""Sizes cross gRPC and the Open Inference Protocol as signed numbers of 32 bits."""
_MOST_MEMORY = 2**40
_MOST_DRAWS = 2**53
_DAY_MS = 86_400_000
_REPLICAS = 1_024
_ORIGIN = re.compile(r"https?://[a-z0-9._~-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")
_KINDS = {str: "some text", bool: "true or false"}
_FILES = ("signing_key_file", "keys_file", "tls_cert_file", "tls_key_file", "tls_client_ca_file")


class SettingError(ValueError):
    """A setting is unknown or cannot be used."""


def _number(default: int, least: int, most: int, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning, "least": least, "most": most})


def _text(default: str, meaning: str, choices: tuple[str, ...] = ()) -> Any:
    return field(default=default, metadata={"meaning": meaning, "choices": choices})


def _flag(default: bool, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


def _expected(each: Field[Any]) -> str:
    if "least" in each.metadata:
        return f"a whole number from {each.metadata['least']} to {each.metadata['most']}"
    choices: tuple[str, ...] = each.metadata.get("choices", ())
    return f"one of {', '.join(choices)}" if choices else ""


def _check(each: Field[Any], value: object) -> None:
    """Raise `SettingError` unless `value` is of the field's type and within what it declares."""
    known = each.metadata
    if "least" in known:
        # A bool is an int to Python, and a float such as NaN passes no comparison.
        right = type(value) is int and known["least"] <= value <= known["most"]
    elif isinstance(each.default, bool):
        right = isinstance(value, bool)
    elif isinstance(each.default, str):
        said = isinstance(value, str) and bool(value.strip()) and (not known["choices"] or value in known["choices"])
        right = said or value == each.default
    elif each.name == "limits":
        right = isinstance(value, Limits)
    else:
        right = isinstance(value, Path) or (value is None and each.default is None)
    if not right:
        expected = _expected(each) or _KINDS.get(type(each.default), "the path of a file or folder")
        raise SettingError(f"{_both(each.name)}: expected {expected}; got {_shown(value)}")


def _path(name: str, text: str) -> Path:
    if not text or "\0" in text:
        raise SettingError(f"{_both(name)}: expected the path of a file or folder; got {_shown(text)}")
    return Path(text)


def _both(name: str) -> str:
    """A setting as a configuration file names it, and as the command line does."""
    return f"setting {name} (--{name.replace('_', '-')})" if name != "models" else "setting models"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may cost at most, whatever it asks for.

    `max_json_bytes` bounds JSON, which costs many times its size to read, below `max_body_bytes`. `max_buffered_bytes` is
    what one process keeps of all requests that are not answered yet; one request may have half.
    """

    max_body_bytes: int = _number(64 * 2**20, 1, _LARGEST, "bytes of the body of one request")
    max_json_bytes: int = _number(8 * 2**20, 1, _LARGEST, "bytes of JSON in one request, which costs more to read")
    max_buffered_bytes: int = _number(768 * 2**20, 1, _MOST_MEMORY, "bytes that one process keeps of all requests")
    max_rows: int = _number(1_024, 1, _LARGEST, "inputs in one request")
    max_draws: int = _number(100_000, 1, MAX_DRAWS, "noisy passes that one input may ask for")
    max_deadline_ms: int = _number(60_000, 1, _DAY_MS, "milliseconds that one request may take")
    max_pending_draws: int = _number(2_000_000, 1, _LARGEST, "noisy passes owed to all requests in flight")

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each, getattr(self, each.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the server listens, what it serves and with what.

    Raises `SettingError`, by the name of the setting, for a value that cannot be used. Without a `signing_key_file` no
    receipts are given. Whether the ports can be had is not looked at here: see `ports.settled`.
    """

    models: Path = field(metadata={"meaning": "folder of bundles: <name>/<version>/"})
    host: str = _text("127.0.0.1", "address or name to listen on; 0.0.0.0 means every IPv4 address, :: every address")
    http_port: int = _number(8000, 0, 65_535, "port of HTTP; 0 takes a free one and says which")
    grpc_port: int = _number(8001, 0, 65_535, "port of gRPC; 0 takes a free one and says which")
    metrics_port: int = _number(8002, 0, 65_535, "port of the metrics; 0 takes a free one and says which")
    noise_secret_file: Path | None = field(
        default=None,
        metadata={"meaning": "file of the noise secret; without it one is made and kept in the user's state folder"},
    )
    signing_key_file: Path | None = field(
        default=None,
        metadata={"meaning": "file of the 32 bytes that sign receipts; without it they are made and kept likewise"},
    )
    keys_file: Path | None = field(
        default=None,
        metadata={"meaning": "file of API keys, which `certserve keys` writes: whoever bears none is refused"},
    )
    tls_cert_file: Path | None = field(
        default=None, metadata={"meaning": "certificate of every port, PEM with its chain; read again when it changes"}
    )
    tls_key_file: Path | None = field(
        default=None, metadata={"meaning": "key of the certificate; goes with tls_cert_file"}
    )
    tls_client_ca_file: Path | None = field(
        default=None, metadata={"meaning": "certificates of the authorities that clients need one of (mTLS)"}
    )
    jwt_keys: str = _text("", "file or https:// URL of an issuer's public keys, PEM or JWKS: its tokens are accepted")
    jwt_issuer: str = _text("", "`iss` of the tokens; goes with jwt_keys")
    jwt_audience: str = _text("", "one of the `aud` of the tokens; goes with jwt_keys")
    jwt_leeway_s: int = _number(30, 0, 300, "seconds that the issuer's clock may be off")
    caller_draws_per_second: int = _number(
        0, 0, _MOST_DRAWS, "noisy passes a second that a caller may have, ten seconds' saved up; 0 means any"
    )
    caller_draws_per_day: int = _number(
        0, 0, _MOST_DRAWS, "noisy passes that a caller may have in a day (UTC); 0 means any"
    )
    metadata: str = _text("closed", "whether models' metadata are told to callers alone", ("closed", "open"))
    provider: str = _text("cpu", "where the models run", ("cpu", "cuda", "tensorrt", "onnx-tensorrt"))
    runtime: str = _text(
        "", "the only runtime that may answer, as answers name it; without it, that of the first engine that is proven"
    )
    cors_origins: str = _text(
        "", "origins whose pages may call from a browser, as https://host:port, separated by commas; * means every one"
    )
    page: bool = _flag(True, "whether a browser gets a page at / on which inputs can be tried")
    threads: int = _number(0, 0, 1_024, "threads that draw in each engine; 0 means one a processor it may use")
    gateways: int = _number(1, 1, _REPLICAS, "gateway replicas (under Ray)")
    engines: int = _number(1, 1, _REPLICAS, "engine replicas (under Ray)")
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each, getattr(self, each.name))
        ports = [each.name for each in fields(self) if each.name.endswith("_port")]
        taken: dict[int, str] = {}
        for name in ports:
            port = getattr(self, name)
            if port and port in taken:
                raise SettingError(f"{taken[port]} and {_both(name)} are both {port}; give each a port of its own")
            taken[port] = _both(name)
        if len({bool(each) for each in (self.jwt_keys, self.jwt_issuer, self.jwt_audience)}) > 1:
            raise SettingError(
                "jwt_keys, jwt_issuer and jwt_audience go together; give all three (--jwt-keys ...), or none"
            )
        pair = self.tls_cert_file, self.tls_key_file
        if any(pair) != all(pair) or (self.tls_client_ca_file and not all(pair)):
            raise SettingError(
                "tls_cert_file and tls_key_file go together, and tls_client_ca_file with both (--tls-cert-file ...)"
            )

        wrong = [each for each in self.origins if each != "*" and not _ORIGIN.fullmatch(each)]
        if wrong:
            expected = "expected https://host:port without a path, several with commas between, or *"
            raise SettingError(f"{_both('cors_origins')}: {expected}; got {_shown(wrong[0])}")

    @property
    def origins(self) -> tuple[str, ...]:
        """Those of `cors_origins`, one by one."""
        return tuple(each.strip() for each in self.cors_origins.split(",")) if self.cors_origins else ()

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Settings:
        """Settings and limits by name from one flat mapping; an unknown name is refused, so is a missing `models`."""
        own = {each.name for each in fields(cls)} - {"limits"}
        limits = {each.name for each in fields(Limits)}
        unknown = sorted(str(name) for name in set(values) - own - limits)
        if unknown or "models" not in values:
            what = f"unknown setting {', '.join(unknown)}" if unknown else "the setting models is missing"
            raise SettingError(f"{what}; known are {', '.join(sorted(own | limits))}")
        chosen: dict[str, Any] = {name: values[name] for name in own & set(values)}
        for name in ("models", "noise_secret_file", *_FILES):
            if isinstance(chosen.get(name), str):
                chosen[name] = _path(name, chosen[name])
        return cls(**chosen, limits=Limits(**{name: values[name] for name in limits & set(values)}))


def declared() -> Iterator[Field[Any]]:
    """Every setting and limit but `models`, in the order in which they are printed."""
    yield from (each for each in [*fields(Settings), *fields(Limits)] if each.name not in ("models", "limits"))


def explained(each: Field[Any]) -> str:
    """What a setting means, what it may be and what it is if nothing is said: a line of `serve --help`."""
    expected, default = _expected(each), each.default
    of = f": {expected}" if expected else ""
    return f"{each.metadata['meaning']}{of}" + ("" if default in (None, "") else f" (default: {default})")
