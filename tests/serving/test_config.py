from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from serving.commands.cli import main
from serving.config import Limits, SettingError, Settings, declared, explained
from serving.runtimes.open import RUNTIMES

NUMBERS = [each for each in declared() if "least" in each.metadata]
OTHERS = ["host", "provider", "runtime", "noise_secret_file", "signing_key_file"]
OTHERS += ["page", "cors_origins", "keys_file", "jwt_keys", "jwt_issuer", "jwt_audience", "metadata"]
OTHERS += ["tls_cert_file", "tls_key_file", "tls_client_ca_file"]


def test_every_setting_says_what_it_is_and_what_it_may_be():
    for each in [*fields(Settings), *fields(Limits)]:
        assert each.name == "limits" or each.metadata["meaning"]
    assert {each.name for each in declared()} == {each.name for each in NUMBERS} | set(OTHERS)
    assert {each.name for each in NUMBERS} >= {each.name for each in fields(Limits)}


@pytest.mark.parametrize("each", NUMBERS, ids=lambda each: each.name)
def test_a_number_outside_its_range_is_refused_by_name_whichever_way_it_comes(each, capsys, tmp_path):
    least, most = each.metadata["least"], each.metadata["most"]
    for value in (least - 1, most + 1, -(2**63), 2**31, 2**63, 10**30):
        if least <= value <= most:
            continue
        message = f"{each.name} .*expected a whole number from {least} to {most}; got {value}"
        with pytest.raises(SettingError, match=message):
            Settings.from_mapping({"models": "m", each.name: value})
        option = "--" + each.name.replace("_", "-")
        assert main(["serve", str(tmp_path), option, str(value)]) == 1
        said = capsys.readouterr().err
        assert option in said
        assert str(value) in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("each", NUMBERS, ids=lambda each: each.name)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1.0, 1.5, "1", "", True, None, [1]])
def test_what_is_no_whole_number_is_refused_by_name(each, value):
    with pytest.raises(SettingError, match=rf"{each.name} .*expected a whole number"):
        Settings.from_mapping({"models": "m", each.name: value})


def test_a_runtime_may_be_left_open():
    for said in ({}, {"runtime": ""}):
        assert Settings.from_mapping({"models": "m", **said}).runtime == ""


def test_the_ends_of_a_range_are_within_it():
    for each in NUMBERS:
        for value in (each.metadata["least"], each.metadata["most"]):
            Settings.from_mapping({"models": "m", each.name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("provider", "gpu", "provider .*expected one of cpu, cuda, tensorrt, onnx-tensorrt; got 'gpu'"),
        ("provider", None, "provider .*expected one of"),
        ("host", "", "host .*expected some text; got ''"),
        ("host", " ", "host .*expected some text"),
        ("host", None, "host .*expected some text; got None"),
        ("runtime", " ", "runtime .*expected some text; got ' '"),
        ("runtime", None, "runtime .*expected some text"),
        ("models", "", "models: expected the path"),
        ("models", None, "models: expected the path"),
        ("models", 5, "models: expected the path"),
        ("models", "a\0b", "models: expected the path"),
        ("noise_secret_file", 5, "noise_secret_file .*expected the path"),
        ("signing_key_file", ["f"], "signing_key_file .*expected the path"),
        ("limits", Limits(), "unknown setting limits"),
        (7, 7, "unknown setting 7"),
    ],
)
def test_any_other_value_that_cannot_be_used_is_refused_by_name(name, value, message):
    with pytest.raises(SettingError, match=message):
        Settings.from_mapping({"models": "m"} | {name: value})


def test_two_equal_ports_are_refused_and_free_ones_are_not_equal():
    for one, other in (("http_port", "grpc_port"), ("grpc_port", "metrics_port"), ("http_port", "metrics_port")):
        with pytest.raises(SettingError, match=f"{one}.* and .*{other}.* are both 9000"):
            Settings.from_mapping({"models": "m", one: 9000, other: 9000})
    with pytest.raises(SettingError, match="grpc_port.* and .*metrics_port.* are both 8002"):
        Settings.from_mapping({"models": "m", "grpc_port": 8002})  # the default of another
    Settings(models=Path("m"), http_port=0, grpc_port=0, metrics_port=0)


def test_the_providers_are_those_of_the_runtime():
    (provider,) = (each for each in declared() if each.name == "provider")
    assert set(provider.metadata["choices"]) == set(RUNTIMES)


def test_the_help_says_of_every_setting_what_it_is(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for each in declared():
        assert " ".join(explained(each).split()) in said.replace("- ", "-")
