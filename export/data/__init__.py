"""Where examples come from: today IDX files.

Absent: everything that is done with them.
"""
