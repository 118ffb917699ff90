"""Runnable measurements: each prints ratios whose two sides were measured in one run, in turns."""
