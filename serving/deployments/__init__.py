"""The two homes of one server: one process, and Ray Serve.

The composition roots: here gateway, engine and wires are put together. Absent: decisions about requests.
"""
