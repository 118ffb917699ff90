"""From a network and held-out data to what a bundle holds.

Holds the heads inside the graphs, the noise table, noisy passes for fitting, calibration and golden outputs. Absent:
the disk format (`export.bundle`) and how a network was trained (`export.recipes`).
"""
