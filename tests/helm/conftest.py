from pathlib import Path

import pytest

from tests.helm.chart_tools import tool


@pytest.fixture(scope="session", params=["helm3", "helm4"])
def helm_binary(request: pytest.FixtureRequest) -> Path:
    """Each major version of helm in turn."""
    return tool(request.param)


@pytest.fixture(scope="session")
def helm4() -> Path:
    """The newer helm, where what is tested does not depend on helm."""
    return tool("helm4")
