"""Benchmarks of the selection: whether its estimates are right, and how fast it is."""
