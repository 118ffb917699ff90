"""Records of what was counted, and what they prove to somebody who trusts no server.

Holds the receipt and its canonical bytes, the recomputation of its claims from counts, and the replay of its draws.
Absent: signatures, files and models.
"""
