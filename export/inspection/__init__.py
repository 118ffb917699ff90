"""What a foreign model is, told from its nodes and from running it, and what is not to be served said with its reason.

Absent: data that is learned from, and anything that is written.
"""
