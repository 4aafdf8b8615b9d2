"""The command ``python sweeps/pareto.py --dataset cifar10``: train a grid, then select a student.

Running it again continues where it stopped. Like the other commands, this file starts without any
of the project's dependencies, so that it can explain how to install them.
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import the package from the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sweeps.commands.entry import command, leave

__all__ = ["main"]

main = command("pareto.py")

if __name__ == "__main__":
    leave(main())
