"""Sweeps over trainings: plan, schedule, execution on Ray Tune, progress and the commands.

How a training works belongs to ``rkd_core``, and the meaning of its results to ``analysis``.
"""
