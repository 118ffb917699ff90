"""From a network and held-out data to what a bundle holds.

Holds the heads inside the graphs, the noise table, rows of a data set as inputs of a model, noisy passes, fit, choice of a
score, calibration and golden outputs; whether data are enough for what is claimed of them; all of
that for a foreign model. Absent: the disk format (`export.bundle`) and how a network was trained (`export.recipes`).
"""
