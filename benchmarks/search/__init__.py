"""Benchmarks of search strategies, replayed on recorded grids."""
