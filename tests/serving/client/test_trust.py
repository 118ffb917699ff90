"""The client's side of TLS and keys: an authority to believe, a certificate to show, and a key."""

from __future__ import annotations

import asyncio
import json

import pytest

from serving import client
from serving.client.trust import Trust
from serving.commands.cli import main
from serving.errors import InvalidInput, Unauthenticated, Unavailable
from serving.security import keys
from tests.certificates import Authority
from tests.half_space import write_half_space
from tests.servers import in_process
from tests.serving.security.credentials import key

AUTHORITY = Authority()
ROWS = {"instances": [[150, 1, 2, 3]]}


@pytest.fixture
def files(tmp_path):
    """A repository, and everything that server and client need."""
    write_half_space(tmp_path / "models")
    text, record = key("camera", ["infer", "read"])
    (tmp_path / "keys").write_bytes(keys.written([record]))
    (tmp_path / "ca").write_bytes(AUTHORITY.certificate)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    AUTHORITY.pair().write(tmp_path, "server")
    AUTHORITY.pair("client").write(tmp_path, "client")
    return tmp_path, text


async def test_python_client_and_command_ask_by_tls_with_a_certificate_and_a_key(files, monkeypatch, capsys):
    folder, text = files
    settings = {
        "keys_file": folder / "keys",
        "tls_cert_file": folder / "server.crt",
        "tls_key_file": folder / "server.key",
        "tls_client_ca_file": folder / "ca",
    }
    own = {"ca": folder / "ca", "certificate": folder / "client.crt", "certificate_key": folder / "client.key"}
    body = json.dumps(ROWS).encode()
    async with in_process(folder / "models", **settings) as address:
        url, target = address.http.replace("http:", "https:"), address.grpc

        def over_http(**given):
            with client.Client(url, "half-space", retries=0, **given) as asking:
                return asking.predict_rows(folder / "rows.json", certify="off")[0].document["label"]

        def over_grpc(key_=None, trust=None):
            found = client.predict_grpc(
                target, "half-space", body, "application/json", {"certify": "off"}, key=key_, trust=trust
            )
            return found["predictions"][0]["label"]

        assert await asyncio.to_thread(over_http, key=text, **own) == "above"
        assert await asyncio.to_thread(over_grpc, text, Trust(**own)) == "above"
        for wrong, error in (
            ({**own}, Unauthenticated),
            ({"key": text, "ca": own["ca"]}, Unavailable),
            ({"key": text}, Unavailable),
        ):
            with pytest.raises(error):
                await asyncio.to_thread(over_http, **wrong)
        with pytest.raises(Unauthenticated):
            await asyncio.to_thread(over_grpc, None, Trust(**own))
        monkeypatch.setenv("CERTSERVE_KEY", text)
        shown = ["--ca", str(own["ca"]), "--cert", str(own["certificate"]), "--cert-key", str(own["certificate_key"])]
        command = ["predict", str(folder / "rows.json"), "--model", "half-space", "--certify", "off", *shown]
        for place in (["--url", url], ["--grpc", target]):
            assert await asyncio.to_thread(main, [*command, *place]) == 0
            assert '"label": "above"' in capsys.readouterr().out
        monkeypatch.delenv("CERTSERVE_KEY")
        (folder / "own").write_text(f"{text}\n")
        for place in (["--url", url], ["--grpc", target]):
            assert await asyncio.to_thread(main, [*command, *place]) == 1
            capsys.readouterr()
            assert await asyncio.to_thread(main, [*command, *place, "--key-file", str(folder / "own")]) == 0
            assert '"label": "above"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [{"certificate": "a"}, {"certificate_key": "a"}, {"ca": "no"}, {"certificate": "a", "certificate_key": "b"}],
)
def test_files_that_cannot_be_used_are_refused_by_name(given):
    with pytest.raises(InvalidInput):
        client.Client("https://127.0.0.1:1", **given)
