"""The protocols: bytes to a `PredictRequest`, and an `Answer` to bytes.

The formats are pure and have a folder each; `http` and `grpc` are the two servers, which only route. Absent: engines,
bundles and statistics: wires know the gateway, never the reverse.
"""
