"""Readers of the accepted layouts: image folders, lists, Parquet, CIFAR, digits."""
