"""The command as a subprocess, and its records."""

import os
import re
import subprocess
import sys
from pathlib import Path

from rkd_core import records

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


def answer(text):
    """Return the printed text from the answer on, which may be "Nothing to ship"."""
    _, said = re.split(r"^(?=Ship  |Nothing to ship: )", text, flags=re.MULTILINE)
    return said


def rows(out):
    table = records.read(out / "records").to_pylist()
    return {row["run_id"]: {k: v for k, v in row.items() if k not in TIMES} for row in table}
