"""The falsifier: a search for counterexamples to what has been issued. One that is proven fails the run."""
