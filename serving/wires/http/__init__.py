"""The HTTP server: one front with real limits, the routes, the reading of bodies.

Absent: formats, which are folders beside this one.
"""
