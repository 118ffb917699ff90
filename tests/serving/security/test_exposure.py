"""Whoever lets others in hears what is open, and with --strict the server does not start; on loopback nobody is bothered."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.commands.cli import main
from serving.config import Settings
from serving.security.exposure import left_open

KEYS, TLS = {"keys_file": Path("k")}, {"tls_cert_file": Path("c"), "tls_key_file": Path("k")}
TOKENS = {"jwt_keys": "k", "jwt_issuer": "i", "jwt_audience": "a"}
MTLS = {**TLS, "tls_client_ca_file": Path("a")}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "fe80::1%eth0", "192.168.1.7"])
@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, ["--keys-file", "--tls-cert-file"]),
        (TLS, ["--keys-file"]),
        (KEYS, ["--tls-cert-file"]),
        (TOKENS, ["--tls-cert-file"]),
        (MTLS, []),
        (KEYS | TLS, []),
        (TOKENS | MTLS, []),
    ],
    ids=lambda each: "+".join(each) or "nothing",
)
def test_what_is_open_is_named_with_what_closes_it(host, given, options):
    found = left_open(Settings(models=Path("m"), host=host, **given))
    assert len(found) == len(options)
    assert all(option in said for option, said in zip(options, found, strict=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1"])
def test_on_loopback_nothing_is_said(host):
    assert left_open(Settings(models=Path("m"), host=host)) == []


def test_strict_refuses_to_start_and_otherwise_it_is_a_warning(tmp_path, capsys):
    """Nothing is there to serve, so it ends in either case, the second time for that."""
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    command = ["serve", "--local", str(tmp_path), "--host", "0.0.0.0", *ports]
    assert main([*command, "--strict"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "it would listen on 0.0.0.0" in said
    assert "--keys-file" in said
    assert main(command) == 1
    said = capsys.readouterr().err.splitlines()
    assert ["warning: it listens on 0.0.0.0" in line for line in said[:3]] == [True, True, False]
