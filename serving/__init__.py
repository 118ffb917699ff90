"""The server: wires -> gateway -> engine -> runtime -> certificate -> wires.

`ray` is imported by `deployments.on_ray` alone, `starlette` and `grpc` by `wires`, `onnxruntime` by `runtimes`, `onnx` by
none. Wires know the gateway, never the reverse. Modules of this package never import `export`, save `export.bundle` and
`export.graphs`; `commands` join them.
"""
