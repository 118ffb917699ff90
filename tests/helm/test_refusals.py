"""What Kubernetes or the server would refuse only later: names, images, nulls, limits, user ids."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from serving.config import declared
from tests.helm.chart import SECRET, Document, container, helm, one, pod_templates, render
from tests.helm.test_rendering import CLUSTER_VERSIONS, SHAPES, _check
from tests.helm.test_values import SCHEMA, VALUES

SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
DIGEST = "sha256:" + "0123456789abcdef" * 4
LONG = "a" * 44 + "-" + "b" * 8  # helm takes 53 characters
RELEASES = [
    "demo",
    "2026-certserve",
    "7-api",
    "my.release",
    "0",
    "1.2.3",
    LONG,
    "9" * 53,
    "a" * 37 + "." + "b" * 15,
    "x" * 47,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_names_of_a_release_are_names_of_services(helm4: Path, shape: str) -> None:
    names = []
    for release in RELEASES:
        documents = render(helm4, {"shape": shape}, release=release)
        for document in documents:
            assert SERVICE_NAME.fullmatch(document["metadata"]["name"]), release
            for version in CLUSTER_VERSIONS:
                _check(document, version, release)
        names.append(one(documents, "Deployment" if shape == "local" else "RayService")["metadata"]["name"])
    assert max(map(len, names)) <= 47  # what KubeRay takes
    assert len(set(names)) == len(names)
    assert names[0] == "demo-certserve"


def test_names_that_yaml_would_take_for_something_else_stay_names(helm4: Path) -> None:
    for shape in SHAPES:
        for name in ("true", "null", "y", "no", "on"):
            documents = render(helm4, {"shape": shape, "fullnameOverride": name})
            assert one(documents, "Deployment" if shape == "local" else "RayService")["metadata"]["name"] == name
        odd = {"noiseSecret": {"name": "123", "key": "0x1"}, "signingKey": {"name": "1.5"}, "priorityClassName": "007"}
        odd |= {"models": {"existingClaim": "1e3"}, "ray": {"operatorNamespace": "42"}, "gpuRuntimeClassName": "1"}
        for document in render(helm4, {"shape": shape, "provider": "cuda", **odd}):
            _check(document, CLUSTER_VERSIONS[-1], "odd names")


def test_releases_that_differ_never_share_a_name(helm4: Path) -> None:
    """Not even where a dot or an end had to give way."""
    pairs = [("my.api", "my-api"), (LONG, LONG[:-1] + "c"), ("7-api", "certserve-7-api")]
    for pair in pairs:
        one_name, other = (
            one(render(helm4, {}, release=release), "Deployment")["metadata"]["name"] for release in pair
        )
        assert one_name != other


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({}, "certserve:0.1.0"),
        ({"tag": "7"}, "certserve:7"),
        ({"digest": DIGEST}, f"certserve@{DIGEST}"),
        ({"digest": DIGEST, "tag": "7"}, f"certserve@{DIGEST}"),
        (
            {"repository": "registry.example:5000/a/b-c__d.e", "digest": DIGEST},
            f"registry.example:5000/a/b-c__d.e@{DIGEST}",
        ),
    ],
)
def test_an_image_is_named_by_its_tag_or_pinned_by_its_digest(helm4: Path, image: Document, expected: str) -> None:
    for shape in SHAPES:
        for template in pod_templates(render(helm4, {"shape": shape, "image": image})).values():
            assert container(template)["image"] == expected


@pytest.mark.parametrize(
    "image",
    [
        {"tag": DIGEST},
        {"tag": "a b"},
        {"tag": "-a"},
        {"tag": "a" * 129},
        {"tag": 7},
        {"repository": f"certserve@{DIGEST}"},
        {"repository": "certserve:7"},
        {"repository": "Certserve"},
        {"repository": "https://registry.example/certserve"},
        {"repository": "a//b"},
        {"repository": ""},
        {"digest": "0123456789abcdef" * 4},
        {"digest": "sha256:0123"},
        {"digest": DIGEST.upper()},
        {"digest": "sha512:" + "0" * 128},
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_and_named(helm4: Path, image: Document) -> None:
    done = helm(helm4, "template", SECRET | {"image": image})
    assert done.returncode != 0
    assert next(iter(image)) in done.stderr


def _paths(values: Document, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from _paths(value, (*before, key))


def _with(values: Document, path: tuple[str, ...], value: object) -> Document:
    changed = copy.deepcopy(values)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def _without(values: Document, path: tuple[str, ...]) -> Document:
    changed = _with(values, path, None)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def _valid(values: Document) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMA).is_valid(values))


def _value(path: tuple[str, ...]) -> Any:
    found: Any = VALUES
    for key in path:
        found = found[key]
    return found


FREE = ("resources", "headResources")
PATHS = list(_paths(VALUES))
NULLABLE = [path for path in PATHS if _value(path) in ("", [], {}) or set(path) & set(FREE) or path == ("userId",)]
NULLABLE.remove(("noiseSecret", "name"))


@pytest.mark.parametrize("path", PATHS, ids=".".join)
def test_a_null_is_refused_where_something_has_to_be_and_taken_where_nothing_may_be(path: tuple[str, ...]) -> None:
    """To helm a null takes the key away; some versions leave it there."""
    assert _valid(_with(VALUES, path, None)) == _valid(_without(VALUES, path)) == (path in NULLABLE)


def test_helm_heeds_that_a_key_is_missing(helm_binary: Path) -> None:
    for path in (("limits",), ("limits", "maxDeadlineMs"), ("noiseSecret", "name"), ("shape",)):
        values = _with(copy.deepcopy({**SECRET, "limits": {}}), path, None)
        done = helm(helm_binary, "template", values)
        assert done.returncode != 0
        assert path[-1] in done.stderr


@pytest.mark.parametrize("shape", SHAPES)
def test_nulls_render_as_nothing(helm_binary: Path, shape: str) -> None:
    nulls: Document = {}
    for path in NULLABLE:
        inner = nulls
        for key in path[:-1]:
            if inner.get(key, {}) is None:
                break
            inner = inner.setdefault(key, {})
        else:
            inner.setdefault(path[-1], None)
    documents = render(helm_binary, {"shape": shape, **nulls})
    for document in documents:
        _check(document, CLUSTER_VERSIONS[-1], "nulls")
        assert _nulls(document) == []
    for template in pod_templates(documents).values():
        assert container(template)["resources"] == {}
        assert container(template)["image"] == "certserve:0.1.0"


def _nulls(value: Any, where: str = "") -> list[str]:
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in _nulls(inner, f"{where}.{key}")]
    if isinstance(value, list):
        return [each for inner in value for each in _nulls(inner, where)]
    return [where] if value is None or "<no value>" in str(value) else []


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


def test_numbers_have_the_range_that_the_server_declares() -> None:
    ranges = {
        each.name: (each.metadata["least"], each.metadata["most"]) for each in declared() if "least" in each.metadata
    }
    limits = SCHEMA["properties"]["limits"]["properties"]
    checked = {name: limits[_camel(name)] for name in ranges if _camel(name) in limits}
    checked |= {"threads": SCHEMA["properties"]["threads"], "engines": SCHEMA["properties"]["replicas"]}
    assert len(checked) == len(limits) + 2
    assert {name: (found["minimum"], found["maximum"]) for name, found in checked.items()} == {
        name: ranges[name] for name in checked
    }


def test_a_limit_beyond_what_the_server_takes_is_refused_and_named(helm_binary: Path) -> None:
    for values, key in [
        ({"limits": {"maxBodyBytes": 2**31}}, "maxBodyBytes"),
        ({"limits": {"maxDraws": 10_000_001}}, "maxDraws"),
        ({"threads": 1_025}, "threads"),
    ]:
        done = helm(helm_binary, "template", SECRET | values)
        assert done.returncode != 0
        assert key in done.stderr
        assert render(helm_binary, {"limits": {"maxBodyBytes": 2**31 - 1}})


OPENSHIFT = ("--api-versions", "security.openshift.io/v1")


@pytest.mark.parametrize("shape", SHAPES)
def test_user_ids_are_left_to_openshift_and_to_whoever_wants_none(helm4: Path, shape: str) -> None:
    fixed = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001}
    rest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    for values, more, expected in [
        ({}, (), rest | fixed),
        ({}, OPENSHIFT, rest),
        ({"userId": None}, (), rest),
        ({"userId": 1_000_660_000}, (), rest | dict.fromkeys(fixed, 1_000_660_000)),
    ]:
        templates = pod_templates(render(helm4, {"shape": shape, **values}, *more))
        for template in templates.values():
            assert template["spec"]["securityContext"] == expected
            given = {each["name"]: each.get("value") for each in container(template)["env"]}
            # A user whom the image does not know has neither a home folder nor a name.
            assert given["HOME"] == "/tmp"
            assert given["USER"] == "certserve"
            (tmp,) = [mount for mount in container(template)["volumeMounts"] if mount["mountPath"] == "/tmp"]
            assert {"name": tmp["name"], "emptyDir": {}} in template["spec"]["volumes"]
