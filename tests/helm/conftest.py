from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest

from tests.helm.chart_tools import tool


@pytest.fixture(scope="session", autouse=True)
def _schemas_that_are_read_once():
    """The library would read all definitions of a version of Kubernetes for each document, some megabytes."""
    with pytest.MonkeyPatch.context() as patch:
        utils = kubernetes_validate.utils
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.fixture(scope="session", params=["helm3", "helm4"])
def helm_binary(request: pytest.FixtureRequest) -> Path:
    """Each major version of helm in turn."""
    return tool(request.param)


@pytest.fixture(scope="session")
def helm4() -> Path:
    """The newer helm, where what is tested does not depend on helm."""
    return tool("helm4")
