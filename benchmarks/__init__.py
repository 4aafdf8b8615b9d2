"""Benchmarks, each a script of its own; ``all.py`` runs those that need no GPU."""
