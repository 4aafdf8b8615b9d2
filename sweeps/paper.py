"""Train what a table of the papers needs, and print ours beside theirs.

    python sweeps/paper.py --table wang-1 --dataset cifar10-lt --seeds 0 1 2

All options of ``pareto.py`` go with it, but for those that the table decides (``--methods``,
``--alphas``, ``--temperatures``, networks and ratio where it states them). What is in the results
folder already is reused. ``--table list`` lists the tables.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.commands.entry import Run

__all__ = ["main"]

_ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != _ROOT:  # as pareto.py does
    sys.path[0] = _ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, which is that of ``pareto.py``."""
    from sweeps.commands.entry import run_command

    return run_command("paper.py", arguments, _load)


def _load() -> Run:
    from sweeps.commands.paper import run

    return run


if __name__ == "__main__":
    from sweeps.commands.entry import leave

    leave(main())
