"""Termination of Ray's agents with the command that started them, even if it is killed.

Ray's own processes end within seconds of a command that is killed. Its two agents first try to
report the end to a server that has also ended, for 60 to 90 seconds.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from sweeps.running.on_ray.private_ray import raylet_pid

__all__ = ["ended_with_this_process"]

# Reads from a pipe without data: the read ends when this process does. The title is compared
# because the process id may have been reused by then.
_GUARD = """
read -r _
for pid; do
  case "$(tr '\\0' ' ' <"/proc/$pid/cmdline")" in
    ray::DashboardAgent*|ray::RuntimeEnvAgent*) kill -9 "$pid" ;;
  esac
done 2>/dev/null
"""


@contextlib.contextmanager
def ended_with_this_process() -> Iterator[None]:
    """Kill the agents of the local Ray when the context exits or this process dies.

    A shell waits for this in its own session, out of reach of signals to the process group. Without
    a shell or ``/proc`` the agents stay for up to 90 seconds.
    """
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "ray-agents", *map(str, _children(raylet_pid()))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError:
        yield
        return
    with guard:  # closes the pipe, then waits
        yield


def _children(parent: int) -> list[int]:
    """Return the process ids of the direct children of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            after_name = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            if int(after_name.split()[1]) == parent:
                found.append(int(entry.parent.name))
    return sorted(found)
