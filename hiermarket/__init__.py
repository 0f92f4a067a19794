"""Hierarchical TSO–DSO balancing markets on labelled arrays."""
