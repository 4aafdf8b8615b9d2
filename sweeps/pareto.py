"""The command: ``python sweeps/pareto.py --dataset cifar10``.

From data to the selected trade-offs: trains what the plan still lacks, then selects. Run it again
to continue. This file must start without any of the project's dependencies, to say what to do
where they are missing.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

# As a script, Python puts this file's own folder first on the path; modules are found from the
# folder above, so that `sweeps` is a package and `sweeps/plan.py` never shadows anything.
_ROOT = str(Path(__file__).resolve().parent.parent)
if __package__ in (None, "") and sys.path[0] != _ROOT:
    sys.path[0] = _ROOT


_PATIENCE = 8.0  # seconds that an interrupted command has to put things away


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; its argument is the signal's number."""


def _interrupt(number: int, _: object) -> None:
    """Unwind in order, but not for ever: a library may wait for what the signal cut short."""
    signal.signal(number, signal.SIG_DFL)  # the second time means: at once
    deadline = threading.Timer(_PATIENCE, os._exit, (128 + number,))
    deadline.daemon = True
    deadline.start()
    raise _Interrupted(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: some trainings failed. 2: bad input, nothing was trained. 130: interrupted by
    Ctrl-C, 143: by SIGTERM.
    """
    try:
        from rkd_core.errors import UserError
        from sweeps.command import run
        from sweeps.parse import parse
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] in ("rkd_core", "sweeps", "analysis"):
            raise
        print(
            f"pareto.py: the package {error.name!r} is not installed here; set up with: "
            "python3 -m venv .venv && .venv/bin/pip install -e . "
            "and use .venv/bin/python",
            file=sys.stderr,
        )
        return 2
    command = sys.argv if arguments is None else ["pareto.py", *arguments]
    with contextlib.suppress(ValueError):  # not in the main thread: somebody else's to handle
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and `&` have it
                signal.signal(number, _interrupt)
    try:
        return run(parse(arguments), command)
    except UserError as error:
        print(f"pareto.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # such as a full disk in the middle of a sweep
        print(f"pareto.py: {error}; nothing finished is lost", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(
            f"pareto.py: stopped; continue with: {shlex.join(['python', *command])}",
            file=sys.stderr,
        )
        return 128 + (stop.args[0] if stop.args else signal.SIGINT)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code >= 128:  # exit handlers, tensorboardX's for one, may wait for ever after an interrupt
        os._exit(code)
    raise SystemExit(code)
