"""Benchmarks of whole sweeps: start, scheduling, overhead and total time."""
