"""What is served, and the proof that it computes what its bundle declares.

Absent: requests.
"""
