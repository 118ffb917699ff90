"""Ask over gRPC with an unmodified tritonclient, several pictures in one request.

pip install 'tritonclient[grpc]' pillow
python examples/ask_triton_grpc.py [127.0.0.1:8001]
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from PIL import Image

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"
names = ["sneaker.png", "trouser.png", "digit_seven.png"]  # the last is no clothing
pixels = np.stack([np.array(Image.open(Path(__file__).with_name(name)))[None] for name in names])

client = triton.InferenceServerClient(server)
images = triton.InferInput("image", pixels.shape, "UINT8")
images.set_data_from_numpy(pixels)

# Every row has a certificate and a verdict of its own.
columns = ["certificate_label", "certificate_radius", "ood_p_value", "ood_in_distribution"]
wanted = [triton.InferRequestedOutput(name) for name in columns]
found = client.infer("fashion-mnist", [images], outputs=wanted, parameters={"certserve.target_radius": 0.25})
for row, name in enumerate(names):
    print(name, *(f"{column}={found.as_numpy(column)[row]}" for column in columns))
