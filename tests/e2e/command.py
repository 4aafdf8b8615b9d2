"""The command as a subprocess, and its records."""

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

from rkd_core import records
from sweeps.pareto import main

ROOT = Path(__file__).resolve().parents[2]
GRID = ["--alphas", "0", "1", "--temperatures", "1", "--epochs", "2"]
TIMES = {"train_seconds", "started_at"}


def pareto(*arguments, cwd=None, timeout=900):
    return subprocess.run(
        [sys.executable, str(ROOT / "sweeps" / "pareto.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "100"},
        check=False,
    )


def pareto_in_process(*arguments, cwd="."):
    """Run the command in this process, without Ray, which is several seconds faster."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, {"COLUMNS": "100"}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        code = main([*map(str, arguments)])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def answer(text):
    """Return the printed text from the answer on, which may be "Nothing to ship"."""
    _, said = re.split(r"^(?=Ship  |Nothing to ship: )", text, flags=re.MULTILINE)
    return said


def rows(out):
    table = records.read(out / "records").to_pylist()
    return {row["run_id"]: {k: v for k, v in row.items() if k not in TIMES} for row in table}
