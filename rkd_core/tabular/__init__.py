"""Tabular data and random forests, for the experiments on UCI Adult."""
