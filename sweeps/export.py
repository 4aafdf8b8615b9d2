"""The command: ``python sweeps/export.py RESULTS``.

Writes the selected student as a folder that PyTorch alone can use. Like ``pareto.py``, this file
must start without any of the project's dependencies.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

# As a script, Python puts this file's own folder first on the path; see pareto.py.
_ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != _ROOT:
    sys.path[0] = _ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: the folder could not be written. 2: bad input; nothing was written.
    """
    from rkd_core.text import terminal
    from sweeps.commands.missing import explain

    terminal.prepare(own_process=arguments is None)
    try:
        from rkd_core.errors import UserError
        from sweeps.cli.parse import parse
        from sweeps.commands.export import Options, run
    except ModuleNotFoundError as error:
        return explain("export.py", error)
    try:
        options = parse(arguments, "export.py", Options)
        folder = run(options)
    except UserError as error:
        print(f"export.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export.py: {UserError(str(error))}", file=sys.stderr)
        return 1
    print(f"Wrote {UserError(str(folder))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
