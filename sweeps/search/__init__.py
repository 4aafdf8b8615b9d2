"""Which trainings, where not all of a grid: strategies that choose the next by what is known.

What belongs here: strategies (``ask`` for a student, ``tell`` what became of it), what they choose
from, and what they may spend. They see records and costs; none starts a training or knows Ray, so
that a sweep and a replay of recorded ones (``benchmarks/search/replay.py``) run the same code.
"""
