"""The noise that perturbs an input, and what it is drawn from.

Holds the laws of smoothing: today the exact rounded Gaussian on a lattice (`noise-v1`) and dual smoothing. Absent:
bounds on probabilities, claims, and any knowledge of who draws: a law samples, and says how far its samples are from
the exact law.
"""
