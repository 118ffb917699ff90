"""Watch a certificate tighten over gRPC with an unmodified tritonclient: several answers to one request of a stream.

pip install 'tritonclient[grpc]' pillow
python examples/watch_triton.py [127.0.0.1:8001]
"""

import queue
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from PIL import Image

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"
pixels = np.array(Image.open(Path(__file__).with_name("sneaker.png")))[None, None]
image = triton.InferInput("image", pixels.shape, "UINT8")
image.set_data_from_numpy(pixels)

# Without `certserve.progress` there is one answer, the last.
parameters = {"certserve.certify": "best", "certserve.max_draws": 2_000, "certserve.progress": True}
parameters |= {"certserve.deadline_ms": 60_000}
answers: queue.Queue = queue.Queue()
client = triton.InferenceServerClient(server)
client.start_stream(lambda result, error: answers.put((result, error)))
client.async_stream_infer("fashion-mnist", [image], request_id="sneaker", parameters=parameters)
final = False
while not final:
    result, error = answers.get(timeout=60)
    if error is not None:
        raise error
    said = result.get_response().parameters
    final = said["triton_final_response"].bool_param
    radius, draws = result.as_numpy("certificate_radius")[0], result.as_numpy("draws")[0]
    print(f"{said['certserve.event'].string_param}: radius {radius:.3f} proven by {draws} draws")
client.stop_stream()
