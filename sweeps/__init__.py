"""Decide what to train and where: the plan, the engine that hands it to Ray Tune, the commands.

What belongs here: grids, dependencies between trainings, scheduling, progress, command lines.
What does not: how a training works (``rkd_core``) and what its numbers mean (``analysis``).
"""
