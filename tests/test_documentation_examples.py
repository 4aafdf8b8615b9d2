"""The Python blocks of the documentation run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rkd_core import records
from rkd_core.records import predictions

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


@pytest.mark.parametrize("block", blocks("docs/data.md"))
def test_the_functions_of_the_page_on_data(block, tmp_path):
    command = re.search(r"sweeps/pareto.py --dataset (\S+)", block)
    (tmp_path / command[1].partition(":")[0]).write_text(block)
    options = ["--dataset", command[1], "--epochs", "1", "--alphas", "1", "--temperatures", "1"]
    printed = run([str(ROOT / "sweeps" / "pareto.py"), *options, "--serial"], tmp_path)
    assert "make, small scale: 2 teachers" in printed
    assert (tmp_path / "results" / "make" / "selection.json").is_file()


@pytest.mark.slow  # trains 24 networks on the included digits
def test_the_readme_and_the_export_of_the_page_on_results(tmp_path):
    (readme,) = blocks("README.md")
    (tmp_path / "readme.py").write_text(readme)
    assert re.search(r"^\d+\.\d% \(", run(["readme.py"], tmp_path), flags=re.MULTILINE)
    run([str(ROOT / "sweeps" / "export.py"), "results/mine"], tmp_path)
    Image.new("L", (8, 8), 100).save(tmp_path / "digit.png")
    (export,) = blocks("docs/results.md")
    (tmp_path / "export.py").write_text(export.replace("digits-lt", "mine"))
    assert run(["export.py"], tmp_path).strip() in "0123456789"


def test_the_queries_of_the_page_on_predictions(tmp_path, monkeypatch):
    labels = np.arange(6) % 2
    for run_id, predicted in (("a", labels), ("b", 1 - labels)):
        logits = np.eye(2, dtype=np.float32)[predicted]
        given = np.arange(6), labels, logits, predicted
        content = predictions.serialize(run_id, "val", "data", *given, "full")
        predictions.publish(tmp_path, run_id, {"val": content})
        row = {"run_id": run_id, "status": "completed", "data_fingerprint": "data"}
        records.write(tmp_path / "records", row | {"schema_version": 1})
    page = (ROOT / "docs/predictions.md").read_text()
    names = {"results": str(tmp_path), "run_id": "a"}
    with_pandas, with_load = blocks("docs/predictions.md")
    exec(with_pandas, names)
    assert names["recall"].to_dict() == {0: 1.0, 1: 1.0}
    exec(with_load, names)
    assert {k: v.tolist() for k, v in names["recall"].items()} == {0: [1.0, 0.0], 1: [1.0, 0.0]}
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    (query,) = re.findall(r"```sql\n(.*?)```", page, flags=re.DOTALL)
    rows = [
        (Path(name).stem, label, recall) for name, label, recall in duckdb.sql(query).fetchall()
    ]
    assert rows == [("a", 0, 1.0), ("a", 1, 1.0), ("b", 0, 0.0), ("b", 1, 0.0)]


def test_the_network_of_the_page_on_networks(tmp_path):
    (block,) = blocks("docs/networks.md")
    (tmp_path / "nets.py").write_text(block)
    page = (ROOT / "docs" / "networks.md").read_text()
    command = re.search(r"sweeps/pareto.py (--dataset \S+ --student-architecture nets.py\S+)", page)
    options = ["--epochs", "1", "--alphas", "1", "--temperatures", "1", "--serial"]
    printed = run([str(ROOT / "sweeps" / "pareto.py"), *command[1].split(), *options], tmp_path)
    assert "nets:TinyNet" in printed


def test_the_logits_of_the_page_on_teachers(tmp_path):
    (block,) = blocks("docs/teacher.md")
    (tmp_path / "answer.py").write_text(block)
    run(["answer.py"], tmp_path)
    page = (ROOT / "docs" / "teacher.md").read_text()
    command = re.search(r"sweeps/pareto.py (--dataset \S+ --teacher-logits \S+)", page)
    options = ["--epochs", "1", "--alphas", "1", "--temperatures", "1", "--serial"]
    printed = run([str(ROOT / "sweeps" / "pareto.py"), *command[1].split(), *options], tmp_path)
    assert "2 teachers (given logits, shifted for other trade-offs)" in printed
