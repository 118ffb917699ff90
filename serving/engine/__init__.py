"""Everything in flight on one device: what is drawn next, what was counted, when to stop.

Holds the pure workload and scheduler, the jobs, and the threads that drive them. Absent: sockets and secrets: an
engine sees tasks with derived keys.
"""
