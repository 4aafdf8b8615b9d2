"""Say what the numbers mean: selection, frontier, tables and figures, from records alone.

What belongs here: anything that can be computed from ``records/*.parquet`` on a laptop far from
the cluster. What does not: training, scheduling, torch, ray. The one thing read from
``rkd_core`` is what a record is (``rkd_core.records``) and the metrics over per-class counts
(``rkd_core.metrics``), neither of which imports torch.
"""
