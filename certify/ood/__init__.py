"""Out-of-distribution scores, their calibration, and what is certified about them.

Holds the fit of scores, conformal p-values and thresholds, the verdict with its interval, and alarms over many
inputs. Absent: graphs and networks: it sees features, logits and scores as arrays.
"""
