"""Train and measure one teacher, or several students of one teacher.

What belongs here: specs, data, networks, objectives, multipliers, the training loop, the
artifacts and records it leaves. What does not: Ray, command lines, sweeps, choices between
trainings. Nothing here imports ``sweeps`` or ``analysis``.

Importing this package imports neither torch nor ray; the modules that need torch do.
"""
