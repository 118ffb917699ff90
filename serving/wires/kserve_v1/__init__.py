"""KServe V1 JSON and the friendly answer document.

Absent: sockets: a format is a pure function of bytes.
"""
