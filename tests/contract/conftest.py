from __future__ import annotations

import pytest

from tests.contract.picture_bundle import CONFIDENT, JOINT, NAME, write_pixels
from tests.contract.server import SIGNING_KEY, served


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    for name in (NAME, JOINT, CONFIDENT):
        write_pixels(models, tmp_path_factory.mktemp("scratch"), name)
    key = models.parent / "signing-key"
    key.write_bytes(SIGNING_KEY)
    with served(models, signing_key_file=key) as address:
        yield address
