"""Audit a receipt offline, without a server, a model, or any code of certserve's: who signed it, and what it proves.

    certserve predict examples/sneaker.png --receipt receipt.json
    python examples/audit_receipt.py receipt.json <public key>

The server prints its public key when it starts. This script looks at the signature and at the certificate of the modes
`target`, `best` and `precision`; `certserve verify` recomputes every claim of every mode, `certserve replay` the draws.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from scipy.special import betainc, betaln, ndtri

document, key = json.loads(Path(sys.argv[1]).read_text()), bytes.fromhex(sys.argv[2])
receipt, signature = document["receipt"], document["signature"]
number = float.fromhex  # floats are written in hexadecimal, so that nothing is rounded

# 1. Who signed? The signed bytes are the receipt as JSON with sorted keys and no spaces, behind a word of context.
signed = b"certserve receipt\0" + json.dumps(receipt, sort_keys=True, separators=(",", ":")).encode("ascii")
try:
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(signature["value"]), signed)
except InvalidSignature:
    sys.exit("the receipt was altered, or another key signed it")
print("signed by key", hashlib.sha256(b"certserve signing key id\0" + key).hexdigest()[:12])

# 2. What was counted? Draws without a result count against the claim: they are misses.
claim = receipt["claims"]["certificate"]
if receipt["procedure"]["name"] not in ("target", "best", "precision"):
    sys.exit("this script audits target, best and precision; use certserve verify")
if claim["class_index"] is None:
    sys.exit(0 if number(claim["radius"]) == 0 else "a radius without a class proves nothing")
draws = receipt["noise"]["stop"] - receipt["noise"]["start"]
hits = receipt["votes"][claim["class_index"]]
misses = draws - hits
print(f"{hits} of {draws} noisy passes voted for class {claim['class_index']}")

# 3. Is the bound proven? The evidence against "the true share is at most m" may exceed 1 / level with probability `level` at
# most, whenever the draws stop. It must do so at the bound itself, before the charge for the finite noise table.
m = number(claim["p_a_lower"]) + number(receipt["noise"]["charge"])
level = (
    number(receipt["alpha"]) * number(receipt["split"]["of_class"]) * m
)  # times m: the class was chosen by the draws
log_evidence = (
    math.log(0.5)
    + betaln(hits + 1, misses + 0.5)
    + math.log(betainc(misses + 0.5, hits + 1, 1 - m))
    - hits * math.log(m)
    - (misses + 0.5) * math.log1p(-m)
)
if hits <= draws * m or log_evidence < math.log(1 / level):
    sys.exit(f"p_a_lower is not proven: evidence exp({log_evidence:.6f}) is less than 1 / {level:.3g}")
print(f"so its share is above {number(claim['p_a_lower'])}, with probability at least {1 - number(receipt['alpha'])}")

# 4. Does the radius follow? Sigma times the normal quantile of the bound; a billionth for another library's last digits.
largest = number(receipt["noise"]["sigma"]) * float(ndtri(number(claim["p_a_lower"])))
if number(claim["radius"]) > max(0.0, largest) * (1 + 1e-9):
    sys.exit(f"the radius {number(claim['radius'])} is larger than the bound allows, {largest}")
print("and the class is the same within", number(claim["radius"]))
