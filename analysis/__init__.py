"""Say what the numbers mean: selection, frontier, tables and figures, from records alone.

What belongs here: anything that can be computed from ``records/*.parquet`` on a laptop far from
the cluster. What does not: training, scheduling, torch, ray. Of ``rkd_core`` it reads records
(``rkd_core.records``), metrics over per-class counts (``rkd_core.metrics``) and the registry of
objectives (``rkd_core.objectives``), none of which imports torch.
"""
