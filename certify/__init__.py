"""The mathematics of what one answer may claim.

Nothing here does I/O, reads a clock, logs, holds a global generator, knows a device or a signature; numpy and scipy
are the only imports. Whatever is returned as a bound lies on the safe side of the exact value.
"""
