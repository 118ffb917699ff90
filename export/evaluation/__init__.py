"""What a bundle is worth on a test set: accuracy, certified accuracy, and how well it tells foreign inputs.

Absent: serving, and any choice made from what is measured.
"""
