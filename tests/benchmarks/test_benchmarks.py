"""Every benchmark runs in seconds with ``--quick`` and ends with its rows; no figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = {
    "makespan": {"makespan"},
    "select_million": {"select_million"},
    "simulate": {"simulate"},
}


def quickly(name, *arguments, folder):
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


@pytest.mark.parametrize("name", ROWS)
def test_a_quick_run_ends_with_the_rows(name, tmp_path):
    done = quickly(name, "--quick", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()[-len(ROWS[name]) :]]
    assert {row["name"] for row in rows} == ROWS[name]
    for row in rows:
        assert list(row) == [
            "name",
            "ratio_median",
            "ratio_min",
            "ratio_max",
            "goal",
            "details",
        ]
        figures = [row["ratio_min"], row["ratio_median"], row["ratio_max"]]
        assert all(type(figure) is float and figure > 0 for figure in figures)
        assert row["ratio_min"] <= row["ratio_max"]
        assert isinstance(row["goal"], str)
        assert row["details"]["repetitions"] >= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ROWS)
def test_an_unknown_argument_is_refused(name, tmp_path):
    done = quickly(name, "--quck", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"usage: python benchmarks/{name}.py [--quick]\n"
