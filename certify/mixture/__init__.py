"""The mixture of an accurate and a robust network, and the radius that survives the mixing.

Holds the mixing, its radii and MixedNUTS. Absent: counting: a mixture takes a certificate and a weight.
"""
