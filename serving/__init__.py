"""The server: wires -> gateway -> engine -> runtime -> certificate -> wires.

`ray` is imported by `deployments.on_ray` alone, `starlette` and `grpc` by `wires`, `onnxruntime` by `runtimes`, `onnx` by
`graphs`. Wires know the gateway, never the reverse. Modules of this package never import `export`, save `export.bundle`;
`commands` join them.
"""
