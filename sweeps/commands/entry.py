"""Entry point of the commands: loading, signals, exit codes and the last line of a failure.

Importing this module requires none of the project's dependencies, so that it can explain how to
install them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

from rkd_core.errors import UserError
from rkd_core.text import terminal
from sweeps.stop import Stop, farewell

__all__ = ["CommandLine", "command", "leave", "missing"]


@dataclass(frozen=True)
class CommandLine:
    """Command line of a process, or of a call in its place."""

    program: str
    """Name of the program for messages, such as ``pareto.py`` or ``rkd sweep``."""
    arguments: Sequence[str]
    typed: Sequence[str]
    """All words as typed, without the interpreter."""


def command(program: str, *, resumes: bool = True) -> Callable[..., int]:
    """Return the command whose module in ``sweeps.commands`` has the program's name.

    The module defines ``main(line, stop)``, which receives the command line and the reasons to
    stop, and returns the exit code. The exit codes of all commands are:

    - 0: success.
    - 1: some trainings failed, a file cannot be written, or a results folder is damaged.
    - 2: bad input; nothing was trained or written.
    - 130, 143, 129: interrupted by Ctrl-C, SIGTERM, or the end of the terminal (SIGHUP).

    Args:
        program: Name of the program, for messages.
        resumes: Whether the same command continues after an interrupt.
    """
    return partial(_run, program, resumes)


def _run(
    name: str, resumes: bool, arguments: Sequence[str] | None = None, program: str | None = None
) -> int:
    """Run the command of this name; ``program`` replaces the name in messages."""
    terminal.prepare(own_process=arguments is None)
    program = program or name
    try:
        module = import_module(f"sweeps.commands.{name.removesuffix('.py')}")
    except ModuleNotFoundError as error:
        return missing(program, error)
    if arguments is None:
        line = CommandLine(program, sys.argv[1:], sys.argv)
    else:
        line = CommandLine(program, arguments, [*program.split(), *arguments])
    stop = Stop(program)
    if resumes:
        stop.handle_signals()
    try:
        return int(module.main(line, stop))
    except UserError as error:
        return _fail(f"{program}: {error}", 2)
    except (MemoryError, ImportError) as error:  # an import may lack memory for its libraries
        from sweeps.running.on_ray.limits import explain

        reason = explain(str(error) or "this process may use no more memory")
        return _fail(_ended(program, resumes, reason), 1)
    except OSError as error:  # such as a full disk in the middle of a sweep
        return _fail(_ended(program, resumes, error), 1)
    except KeyboardInterrupt as interrupt:
        again = f"continue with: {terminal.command_line(line.typed)}"
        last = again if resumes else "nothing was written"
        number = interrupt.args[0] if interrupt.args else signal.SIGINT
        return _fail(f"{program}: stopped; {last}", 128 + number)


def _ended(program: str, resumes: bool, cause: object) -> str:
    return farewell(cause, program) if resumes else f"{program}: {UserError(str(cause))}"


def _fail(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code


def missing(program: str, error: ModuleNotFoundError) -> int:
    """Print which package is missing and how to install it; return the exit code.

    Raises:
        ModuleNotFoundError: The module is one of this project.
    """
    if error.name is None or error.name.split(".")[0] in ("rkd_core", "sweeps", "analysis"):
        raise error
    line = (
        f"{program}: the package {error.name!r} is not installed here; set up with: "
        "python3 -m venv .venv && .venv/bin/pip install -e . "
        "and use .venv/bin/python"
    )
    return _fail(line, 2)


def leave(code: int) -> None:
    """End the process; after an interrupt without exit handlers, some of which may wait forever."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code >= 128:
        os._exit(code)
    raise SystemExit(code)
