from __future__ import annotations

import pytest

from tests.contract.picture_bundle import write_pixels
from tests.contract.server import served


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_pixels(models, tmp_path_factory.mktemp("scratch"))
    with served(models) as address:
        yield address
