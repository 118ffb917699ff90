"""What is told to Prometheus: its own parser reads it, and no stranger chooses a word of it."""

from __future__ import annotations

from urllib.parse import quote

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.picture_bundle import NAME

STRANGE = 'stranger"\\'
GRID = {"instances": [[[[100, 1], [2, 3]]]]}
LABELS = {"protocol", "code", "caller", "model", "status", "decision", "le"}


def test_it_is_read_by_the_parser_of_prometheus_and_no_label_is_chosen_by_a_client(server):
    headers = {"X-Request-Id": "stranger.1", "Authorization": f"Bearer {STRANGE}", "User-Agent": STRANGE}
    with httpx.Client(base_url=server.http, headers=headers) as client:
        assert client.post(f"/v1/models/{NAME}:predict", json={**GRID, "certify": "best", "max_draws": 64}).is_success
        for path in (
            f"/v1/models/{quote(STRANGE)}:predict",
            f"/v2/models/{NAME}/versions/{quote(STRANGE)}/infer",
            f"/{quote(STRANGE)}",
        ):
            assert client.post(path, json=GRID).status_code in (400, 404)
        assert client.request("STRANGER", "/v2").is_client_error
    families = list(text_string_to_metric_families(generate_latest().decode()))
    ours = [sample for family in families if family.name.startswith("certserve_") for sample in family.samples]
    assert {sample.name for sample in ours} >= {"certserve_requests_total", "certserve_draws_total"}
    assert {name for sample in ours for name in sample.labels} <= LABELS
    assert [sample for sample in ours if "stranger" in str(sample.labels).lower()] == []
