"""From a client's payload to rows of integers on the bundle's grid, one module a kind of input.

Holds the registry of kinds of file, pictures, JSON rows, and the way of numbers onto the grid. Absent: protocols, models and
defaults: an input knows the grid alone.
"""
