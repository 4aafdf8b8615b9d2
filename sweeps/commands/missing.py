"""What a command says where the project is not installed. Starts without its dependencies."""

from __future__ import annotations

import sys

__all__ = ["explain"]


def explain(program: str, error: ModuleNotFoundError) -> int:
    """Say which package is missing and how to install it; returns the exit code.

    Raises:
        ModuleNotFoundError: It is one of ours: a fault, and no matter of installing.
    """
    if error.name is None or error.name.split(".")[0] in ("rkd_core", "sweeps", "analysis"):
        raise error
    print(
        f"{program}: the package {error.name!r} is not installed here; set up with: "
        "python3 -m venv .venv && .venv/bin/pip install -e . "
        "and use .venv/bin/python",
        file=sys.stderr,
    )
    return 2
