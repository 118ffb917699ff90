"""Recipes: each trains, fits, calibrates and writes one bundled model."""
