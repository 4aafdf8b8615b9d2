"""Every example of docs/extend.md runs as it stands, with the command below it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extend.md").read_text()
EXAMPLES = re.findall(
    r"^## (.+?)\n(?:(?!^## ).)*?```python\n# (\S+\.py)\n(.*?)```.*?```sh\n(.*?)```",
    PAGE,
    flags=re.DOTALL | re.MULTILINE,
)
SMALL = ["--epochs", "2", "--alphas", "1", "--temperatures", "1", "--serial"]


def run(line, folder, more=()):
    """Run a line of the page; return what it prints."""
    words = shlex.split(line)
    assert words[0] == "rkd"
    more = [word for word in more if words[1] == "sweep"]
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.commands.rkd", *words[1:], *more],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("title", "name", "text", "commands"), EXAMPLES, ids=lambda value: value[:20]
)
def test_an_example(title, name, text, commands, tmp_path):
    (tmp_path / name).write_text(text)
    lines = commands.strip().splitlines()
    for line in lines:
        run(line, tmp_path, SMALL)
    (results,) = (tmp_path / "results").iterdir()
    assert (results / "selection.json").is_file()
    again = run(lines[0], tmp_path, SMALL)
    assert "are trained already" in again or "No training is needed" in again
    assert len(text.splitlines()) <= 24


def test_every_kind_has_an_example():
    kinds = [
        re.search(r"from rkd_core.plugins import (\w+)", text)[1] for _, _, text, _ in EXAMPLES
    ]
    assert kinds == [
        "networks",
        "datasets",
        "methods",
        "objectives",
        "criteria",
        "search_strategies",
    ]
