"""Stands before the real one in a server under test, which is installed without it: one of the clients under test brings
it, and each of Ray's processes would import it, for a second.
"""

raise ImportError("pandas does not come with a server")
