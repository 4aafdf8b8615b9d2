"""Selection, Pareto frontier, tables, figures and report, from records alone.

Everything here is computed from ``records/*.parquet``, without training, scheduling, torch or ray.
Of ``rkd_core`` it uses records, metrics over per-class counts, the registry of objectives, storage,
errors and text, none of which imports torch.
"""
