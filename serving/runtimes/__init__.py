"""Whatever runs the graphs of a bundle, behind one small protocol and one contract suite."""
