"""The Open Inference Protocol v2, in JSON, binary and protobuf, with Triton's extensions.

Absent: sockets: a format is a pure function of bytes.
"""
