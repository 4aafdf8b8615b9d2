"""Training and measurement of one teacher, or of several students of one teacher.

This package contains specs, data, networks, objectives, multipliers, the training loop, artifacts
and records. Ray, command lines, sweeps and the selection of a student are elsewhere; nothing here
imports ``sweeps`` or ``analysis``.

Importing this package imports neither torch nor ray; the modules that need torch import it.
"""
