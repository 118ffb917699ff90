"""Unmodified tritonclient over gRPC, in a process of its own: `python triton_radii.py HOST:PORT PIXELS.npy`.

Prints the radii of the pictures, which go in one after the other, as a JSON list.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
radii = []
for picture in np.load(sys.argv[2]):
    tensor = triton.InferInput("image", [1, *picture.shape], "UINT8")
    tensor.set_data_from_numpy(picture[None])
    found = client.infer("fashion-mnist", [tensor], outputs=[triton.InferRequestedOutput("certificate_radius")])
    radii.append(float(found.as_numpy("certificate_radius")[0]))
print(json.dumps(radii))
