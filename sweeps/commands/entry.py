"""What commands that train have in common: signals, last lines and exit codes.

Starts without any of the project's dependencies, to say what to do where they are missing.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.stop import Stop

__all__ = ["leave", "run_command"]

Run = Callable[[Sequence[str] | None, Sequence[str], "Stop"], int]
"""From the arguments, the command as it was typed, and the stop, to the exit code."""


def run_command(program: str, arguments: Sequence[str] | None, load: Callable[[], Run]) -> int:
    """Run a command line; returns the exit code.

    0: done. 1: some trainings failed. 2: bad input, nothing was trained. 130: interrupted by
    Ctrl-C, 143: by SIGTERM, 129: by the end of the terminal (SIGHUP).

    Args:
        program: Its name, for messages.
        arguments: Of the command line; None for those of this process.
        load: Imports and returns what is run.
    """
    from rkd_core.text import terminal
    from sweeps.commands.missing import explain

    terminal.prepare(own_process=arguments is None)
    try:
        from rkd_core.errors import UserError
        from sweeps.stop import Stop, farewell

        run = load()
    except ModuleNotFoundError as error:
        return explain(program, error)
    command = sys.argv if arguments is None else [program, *arguments]
    stop = Stop()
    stop.handle_signals()
    try:
        return run(arguments, command, stop)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except (MemoryError, ImportError) as error:  # an import may lack memory for its libraries
        from sweeps.running.on_ray.limits import explain as with_limits

        reason = str(error) or "this process may use no more memory"
        print(farewell(with_limits(reason), program), file=sys.stderr)
        return 1
    except OSError as error:  # such as a full disk in the middle of a sweep
        print(farewell(error, program), file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(
            f"{program}: stopped; continue with: {shlex.join(['python', *command])}",
            file=sys.stderr,
        )
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)


def leave(code: int) -> None:
    """End the process; after an interrupt at once.

    Exit handlers, tensorboardX's for one, may then wait for ever.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if code >= 128:
        os._exit(code)
    raise SystemExit(code)
