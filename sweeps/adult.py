"""The command ``python sweeps/adult.py --data-dir DIR``: distill forests on UCI Adult.

It prints Tables 8 and 9 of Lukasik et al. (TMLR 2022) beside the measured figures.
"""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import the package from the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sweeps.commands.entry import command, leave

__all__ = ["main"]

main = command("adult.py", resumes=False)

if __name__ == "__main__":
    leave(main())
