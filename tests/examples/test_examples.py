"""The scripts of ``examples/`` run as a user runs them, once more without training."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run(tmp_path):
    """Return a function that runs a script in a copy of the folder, and returns its output."""
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)

    def run(name):
        done = subprocess.run(
            [sys.executable, name], check=False, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "trained", "last"),
    [
        ("own_arrays_and_network.py", "[15/15]", "disk on test: "),
        ("teacher_by_logits.py", "[15/15]", "selected student: average "),
        ("records_to_plot.py", "[24/24]", "16 students, best worst class "),
    ],
)
def test_an_example_runs_and_its_second_run_trains_nothing(run, name, trained, last):
    first = run(name)
    assert trained in first
    assert first.splitlines()[-1].startswith(last)
    again = run(name)
    assert "/15]" not in again
    assert "/24]" not in again
    assert again.splitlines()[-1] == first.splitlines()[-1]


def test_every_example_is_run_and_documented():
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text()
    tested = {"own_arrays_and_network.py", "teacher_by_logits.py", "records_to_plot.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested | {"tiny_net.py"}
    assert all(f"examples/{name}" in page for name in tested)
