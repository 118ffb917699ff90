"""Ask over HTTP with an unmodified tritonclient, in the Open Inference Protocol.

pip install 'tritonclient[http]' pillow
python examples/ask_triton_http.py [127.0.0.1:8000]
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from PIL import Image

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"
pixels = np.array(Image.open(Path(__file__).with_name("sneaker.png")))[None, None]  # uint8, 1 row of 1 x 28 x 28

client = triton.InferenceServerClient(server)
image = triton.InferInput("image", pixels.shape, "UINT8")
image.set_data_from_numpy(pixels)

# Plain clients stay plain: who asks for probabilities alone gets them, and nothing is drawn.
plain = client.infer("fashion-mnist", [image])
print("most probable class:", plain.as_numpy("probabilities")[0].argmax())

# Who names a tensor of the certificate among the outputs gets one. Options are parameters of the request.
wanted = [triton.InferRequestedOutput(name) for name in ("certificate_label", "certificate_radius", "draws")]
found = client.infer("fashion-mnist", [image], outputs=wanted, parameters={"certserve.target_radius": 0.5})
print("certified class:", found.as_numpy("certificate_label")[0])
print("radius:", found.as_numpy("certificate_radius")[0])
print("draws:", found.as_numpy("draws")[0])
