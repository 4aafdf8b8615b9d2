"""The command: ``python sweeps/adult.py --data-dir DIR``.

Tables 8 and 9 of Lukasik et al. (TMLR 2022), ours beside theirs. Like ``pareto.py``, this file must
start without any of the project's dependencies.
"""

from __future__ import annotations

import signal
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

    0: done. 1: the result could not be written. 2: bad input. 130: interrupted by Ctrl-C.
    """
    from rkd_core.text import terminal
    from sweeps.commands.missing import explain

    terminal.prepare(own_process=arguments is None)
    try:
        from rkd_core.errors import UserError
        from sweeps.cli.parse import parse
        from sweeps.commands.adult import Options, run
    except ModuleNotFoundError as error:
        return explain("adult.py", error)
    try:
        run(parse(arguments, "adult.py", Options))
        return 0
    except UserError as error:
        print(f"adult.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"adult.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("adult.py: stopped; nothing was written", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    raise SystemExit(main())
