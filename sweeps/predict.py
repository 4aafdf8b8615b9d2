"""The command ``python -m sweeps.predict RESULTS``: compute the predictions of earlier sweeps."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a script: import the package from the folder above
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from sweeps.commands.entry import command, leave

__all__ = ["main"]

main = command("predict")

if __name__ == "__main__":
    leave(main())
