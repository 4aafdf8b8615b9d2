"""Tabular data and forests: the experiments on UCI Adult."""
