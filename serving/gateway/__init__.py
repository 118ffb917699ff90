"""From what a client asked to a complete task, and from replies to an answer.

Holds defaults, limits and noise keys (`resolve`), the split of large tasks over engines (`dealer`), and sending again
(`retry`). Absent: HTTP, gRPC and Ray.
"""
