"""Readers of the supported layouts: image folders, image lists, Parquet, CIFAR and digits."""
