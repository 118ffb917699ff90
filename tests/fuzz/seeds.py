"""Where fuzzing begins: for each parser some inputs that it takes, and some that it just refuses.

`python -m tests.fuzz.seeds` writes them into the corpora, beside what fuzzing has found.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

from protos.certserve.v1 import certserve_pb2
from protos.inference import open_inference_pb2
from serving.security import keys
from serving.security.signing import Signer
from tests.certify.made_receipts import made
from tests.certify.receipts.test_receipt import CASES
from tests.fuzz.targets import MODEL
from tests.serving.security.credentials import ALL_PEM, by_hand, jwks, key, token
from tests.serving.wires.pictures import encoded, grey

CORPORA = Path(__file__).parent / "corpora"
ROW = list(range(16))
TENSOR = {"name": "image", "shape": [1, 1, 4, 4], "datatype": "INT32"}
DISPOSITION = b'Content-Disposition: form-data; name="file"; filename="a.png"'
FORM = b"multipart/form-data; boundary=b\n--b\r\n" + DISPOSITION + b"\r\n\r\n%s\r\n--b--\r\n"


def seeds() -> dict[str, list[bytes]]:
    """By parser."""
    asked = json.dumps({"inputs": [{**TENSOR, "data": ROW}]}).encode()
    sized = json.dumps({"inputs": [{**TENSOR, "parameters": {"binary_data_size": 64}}]}).encode()
    tensor = open_inference_pb2.ModelInferRequest.InferInputTensor(**TENSOR)
    oip = open_inference_pb2.ModelInferRequest(model_name="pictures", inputs=[tensor], raw_input_contents=[bytes(64)])
    typed = certserve_pb2.PredictRequest(model="pictures", grid=certserve_pb2.GridTensor(shape=[1, 1, 4, 4], data=ROW))
    nested = [[ROW[4 * place : 4 * place + 4] for place in range(4)]]
    rows = json.dumps({"instances": [nested], "certify": "best", "max_draws": 64}).encode()
    pictures = [encoded(grey(size=4), form) for form in ("PNG", "JPEG")]
    signed = Signer(b"k" * 32)
    wanted = b"certify=target&target_radius=0.5&max_draws=100&outputs=ood,mixture&snap=true"
    return {
        "oip_in_json": [asked, b"{}", b'{"inputs":[]}'],
        "oip_in_binary": [len(sized).to_bytes(2) + sized + bytes(64), bytes(2) + bytes(64)],
        "oip_message": [oip.SerializeToString(), b""],
        "typed_message": [typed.SerializeToString(), b""],
        "instances": [rows, b'{"instances":[1e400]}'],
        "picture": pictures,
        "form": [FORM % pictures[0], FORM % b"x"],
        "query": [wanted, b"draws=1000&alpha=0.001&deadline_ms=5"],
        "manifest": [MODEL.manifest.model_dump_json(by_alias=True).encode()],
        "receipt": [signed.sign(made(**case)).to_text().encode() for case in list(CASES.values())[:3]],
        "head": [
            b"host: a\ncontent-length: 5\naccept-encoding: gzip;q=0.5, *;q=0",
            b"host: a\ntransfer-encoding: chunked",
        ],
        "inflated": [
            b"\1" + gzip.compress(b"a" * 99, mtime=0),
            b"\2" + zlib.compress(b"b" * 99),
            b"\1" + gzip.compress(b"c", mtime=0) * 3,
        ],
        "frames": [bytes([0, 0, 4, 1, 5, 0, 0, 0, 1]) + b"abcd" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])],
        "token": [token(name).encode() for name in ("RS256", "ES256", "EdDSA")] + [by_hand({"alg": "none"}).encode()],
        "authorization": [b"Bearer " + token().encode(), b"bearer cs-abc", b"Basic a", b"Bearer a, Bearer b"],
        "public_keys": [ALL_PEM, jwks(), b'{"keys":[]}'],
        "file_of_keys": [keys.written([key()[1], key("robot", ["read", "admin"])[1]]), b'{"keys":[]}'],
    }


if __name__ == "__main__":
    for name, contents in seeds().items():
        folder = CORPORA / name
        folder.mkdir(parents=True, exist_ok=True)
        for place, data in enumerate(contents):
            (folder / f"seed-{place}").write_bytes(data)
