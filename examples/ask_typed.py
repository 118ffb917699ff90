"""Ask over gRPC with the typed service, from its stubs alone: only grpc and the generated messages are imported.

Copy `protos/certserve` into your own project, or generate the stubs from `certserve.proto` in your own language.
The comments of that file say what every field claims.

    python examples/ask_typed.py [127.0.0.1:8001]      (from the folder above, or with certserve installed)
"""

import sys
from pathlib import Path

import grpc

from protos.certserve.v1 import certserve_pb2 as messages
from protos.certserve.v1 import certserve_pb2_grpc as services

server = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"
picture = Path(__file__).with_name("sneaker.png").read_bytes()

request = messages.PredictRequest(
    model="fashion-mnist",
    image=messages.Image(content=picture, content_type="image/png"),
    options=messages.Options(certify=messages.CERTIFY_MODE_TARGET, target_radius=0.5),
)
with grpc.insecure_channel(server) as channel:
    service = services.CertificationServiceStub(channel)
    answer = service.Predict(request, timeout=30)
    (prediction,) = answer.predictions
    # What may be absent is asked for: no label means that the server abstained, and then nothing is claimed.
    if prediction.certificate.HasField("label"):
        print(f"certified: {prediction.certificate.label} within {prediction.certificate.radius}")
    else:
        print("abstained")
    print("in distribution:", prediction.ood.in_distribution, "p-value:", prediction.ood.p_value)
    print("every claim holds but with probability", prediction.alpha, "counted by", answer.model.runtime)

    # An error has a code, and a message that says how to mend it.
    try:
        service.Predict(messages.PredictRequest(model="no-such-model", image=request.image), timeout=30)
    except grpc.RpcError as error:
        print(error.code().name, error.details())
