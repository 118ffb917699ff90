"""The server: wire -> gateway -> engine -> runtime -> certificate -> wire.

`ray` is imported by `on_ray` alone, `starlette` and `grpc` by `wire`, `onnxruntime` by `runtimes`. Wires know the
gateway, never the reverse. Modules of this package never import `export`, save `export.bundle`; `cli` alone joins them.
"""
