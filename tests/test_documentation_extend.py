"""Every example of docs/extend.md runs as it stands, with the command below it."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from sweeps.commands.rkd import main
from tests.extensions.state import forget

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extend.md").read_text()
EXAMPLES = re.findall(
    r"^## (.+?)\n(?:(?!^## ).)*?```python\n# (\S+\.py)\n(.*?)```.*?```sh\n(.*?)```",
    PAGE,
    flags=re.DOTALL | re.MULTILINE,
)
SMALL = ["--epochs", "2", "--alphas", "1", "--temperatures", "1", "--serial"]


@pytest.mark.parametrize(
    ("title", "name", "text", "commands"), EXAMPLES, ids=lambda value: value[:20]
)
def test_an_example(title, name, text, commands, tmp_path, monkeypatch, capsys):
    def run(line):
        program, command, *words = shlex.split(line)
        assert program == "rkd"
        forget(monkeypatch)
        assert main([command, *words, *(SMALL if command == "sweep" else ())]) == 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / name).write_text(text)
    lines = commands.strip().splitlines()
    for line in lines:
        run(line)
    (results,) = (tmp_path / "results").iterdir()
    assert (results / "selection.json").is_file()
    capsys.readouterr()
    run(lines[0])
    again = capsys.readouterr().out
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
        "metrics",
        "search_strategies",
    ]
