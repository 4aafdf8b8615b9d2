"""Selection, Pareto frontier, tables, figures and report, from records alone.

Everything here is computed from ``records/*.parquet``, without training, scheduling, torch or ray.
It uses only the parts of ``rkd_core`` that do not import torch: records, metrics over per-class
counts, the registry of objectives, storage, errors and text.
"""
