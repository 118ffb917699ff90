"""`certserve.v1`, the typed gRPC service, as pure functions between its messages and ours.

Absent: sockets.
"""
