"""The Python blocks of the documentation run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def run(arguments, folder):
    done = subprocess.run(
        [sys.executable, *arguments], check=False, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_on_python(tmp_path):
    (tmp_path / "page.py").write_text("\n".join(blocks("docs/python.md")))
    printed = run(["page.py"], tmp_path)
    assert "worst class on test:" in printed
    assert (tmp_path / "results" / "tones" / "report.html").is_file()


def test_the_function_of_the_page_on_data(tmp_path):
    (block,) = blocks("docs/data.md")
    (tmp_path / "mine.py").write_text(block)
    command = re.search(r"sweeps/pareto.py --dataset (\S+)", block)
    options = ["--dataset", command[1], "--epochs", "1", "--alphas", "1", "--temperatures", "1"]
    printed = run([str(ROOT / "sweeps" / "pareto.py"), *options, "--serial"], tmp_path)
    assert "make, small scale: 2 teachers" in printed
    assert (tmp_path / "results" / "make" / "selection.json").is_file()


@pytest.mark.parametrize("page", ["docs/python.md", "docs/data.md"])
def test_the_pages_have_examples(page):
    assert blocks(page)
