"""The command: ``python sweeps/pareto.py --dataset cifar10``.

From data to the selected trade-offs: trains what the plan still lacks, then selects. Run it again
to continue. This file must start without any of the project's dependencies, to say what to do
where they are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.commands.entry import Run

__all__ = ["main"]

# As a script, Python puts this file's own folder first on the path; modules are found from the
# folder above, so that `sweeps` is a package and `sweeps/planning/plan.py` never shadows anything.
_ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != _ROOT:
    sys.path[0] = _ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, see ``sweeps.commands.entry``."""
    from sweeps.commands.entry import run_command

    return run_command("pareto.py", arguments, _load)


def _load() -> Run:
    from sweeps.cli.parse import parse
    from sweeps.commands.pareto import run

    return lambda arguments, command, stop: run(parse(arguments), command, stop)


if __name__ == "__main__":
    from sweeps.commands.entry import leave

    leave(main())
