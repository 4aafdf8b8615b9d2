"""The command ``python sweeps/paper.py --table wang-1``: reproduce a table of the papers.

It takes the options of ``pareto.py``, except for those that the table decides. ``--table list``
lists the tables.
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import the package from the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sweeps.commands.entry import command, leave

__all__ = ["main"]

main = command("paper.py")

if __name__ == "__main__":
    leave(main())
