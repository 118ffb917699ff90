"""From a client's payload to rows of integers on the bundle's grid, one module a kind of input.

Holds pictures and JSON rows. Absent: protocols, models and defaults: an input knows the grid alone.
"""
