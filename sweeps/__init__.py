"""Sweeps over trainings: plan, schedule, execution on Ray Tune, progress and the commands.

``rkd_core`` implements the trainings, and ``analysis`` interprets their results.
"""
