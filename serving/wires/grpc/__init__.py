"""The gRPC server: its services, its frame of errors and request ids, its readiness.

Absent: formats, which are folders beside this one.
"""
