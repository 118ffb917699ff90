"""The .proto files, whose comments are the specification of the gRPC wires, and their generated, committed stubs.

Nothing here is written by hand but the .proto files and `generate.py`; nothing here imports the rest of the house.
`protos.inference` registers the package `inference`, which the official clients register too: a process can hold one
of them only, so nothing but `serving.wires` imports it.
"""
