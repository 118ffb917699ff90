"""Bounds on a probability or a quantile, from counts.

Holds fixed-n Clopper-Pearson (`binomial`), confidence sequences valid at every number of draws (`anytime`),
quantiles, and a prior that knows the base pass. Absent: radii, noise and classes: a bound speaks of one event, not of
what it proves about an input.
"""
