"""Search strategies, which choose the students to train based on the results so far.

A strategy proposes students (``ask``) and receives their records (``tell``). It sees records and
costs, but does not start trainings and does not depend on Ray, so a sweep and a replay of recorded
sweeps (``benchmarks/search/replay.py``) run the same code.
"""
