"""Tests of the typed command."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from analysis.select import main, run
from analysis.selection.rule_options import Rule
from rkd_core.errors import UserError
from tests.analysis import worlds


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, timeout=600,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip


def test_the_command_prints_the_table_and_leaves_its_files(tmp_path: Path) -> None:
    rows = worlds.sweep(("standard", 1.0), ("standard", 1.0), (1.0, 2.0), seeds=2)
    rows.append(worlds.student("broken", 0.5, 0.5, status="failed"))
    worlds.write(tmp_path, rows)
    ended = python("-m", "analysis.select", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert ended.stdout.strip().startswith("Ship ")
    assert "1 failed run left out" in ended.stdout
    names = {"selection.json", "pareto.png", "pareto.svg", "report.html", "records", ".answer.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    content = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert len(content["combinations"]) == 8
    assert content["selected"]["seeds"] == [0, 1]
    assert content["teacher_architecture"] == "resnet56"


def test_the_library_entry_returns_what_it_writes(tmp_path: Path) -> None:
    rows = worlds.sweep(("standard",), ("standard", 0.5), (1.0,), seeds=2)
    worlds.write(tmp_path, rows)
    console = Console(file=io.StringIO(), width=80)
    ids = [row["run_id"] for row in rows if row["seed"] == 1]
    content = run(tmp_path, run_ids=ids, rule=Rule(2, "0.25"), figures=False, console=console)
    assert content == json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert content["selected"]["seeds"] == [1]
    assert content["constraint"]["margin"] == 0.25
    assert content["criterion"]["worst_k"] == 2
    assert not (tmp_path / "pareto.png").exists()


def test_the_options_reach_the_selection(tmp_path: Path) -> None:
    worlds.write(tmp_path, worlds.sweep(("standard",), ("standard", 0.5), (1.0,)))
    options = ["--worst-k", "3", "--margin", "0.02", "--family", "family-s", "--no-figures"]
    assert main([str(tmp_path), *options]) == 0
    content = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert content["criterion"]["worst_k"] == 3
    assert content["constraint"]["margin"] == 0.02
    assert not (tmp_path / "pareto.png").exists()


@pytest.mark.parametrize(
    ("trouble", "options", "message"),
    [
        ("missing", [], "does not exist"),
        ("file", [], "is not a folder"),
        ("no records", [], "has no records folder"),
        ("empty", [], "holds no records"),
        ("failed", [], "holds no completed student"),
        ("foreign", [], "is not a record"),
        ("no standard", [], "no completed run is standard distillation"),
        ("sound", ["--worst-k", "0"], "worst-k: k must be from 1 to the 10 classes"),
        ("sound", ["--worst-k", "11"], "worst-k: k must be from 1 to the 10 classes"),
        ("sound", ["--margin", "nan"], "margin must be a fraction"),
        ("sound", ["--family", "x"], "no completed student of family x"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    trouble: str,
    options: list[str],
    message: str,
) -> None:
    results = tmp_path / "results"
    if trouble == "file":
        results.touch()
    elif trouble != "missing":
        results.mkdir()
    if trouble in ("empty", "foreign"):
        (results / "records").mkdir()
    if trouble == "foreign":
        pq.write_table(pa.table({"x": [1]}), results / "records" / "x.parquet")
    if trouble == "failed":
        worlds.write(results, [worlds.student("a", status="failed")])
    if trouble == "no standard":
        worlds.write(results, [worlds.student("a", 0.5, 0.5)])
    if trouble == "sound":
        worlds.write(results, worlds.sweep(("standard",), ("standard", 0.5), (1.0,)))
    assert main([str(results), *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (results / "selection.json").exists()


def test_the_command_exits_with_two(tmp_path: Path) -> None:
    ended = python("-m", "analysis.select", str(tmp_path / "absent"))
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "Traceback" not in ended.stderr


def test_a_terminal_without_greek_letters_is_no_error(tmp_path: Path) -> None:
    worlds.write(tmp_path, worlds.sweep(("standard",), ("standard", 0.5), (1.0,)))
    code = (
        "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='ascii');"
        "from analysis.select import main; sys.exit(main(sys.argv[1:]))"
    )
    ended = python("-c", code, str(tmp_path), "--no-figures")
    assert ended.returncode == 0, ended.stderr


def test_classes_that_differ_between_validation_and_test(tmp_path: Path) -> None:
    rows = [row | {"test_class_total": [9], "test_class_correct": [1]} for row in worlds.sweep()]
    worlds.write(tmp_path, rows)
    with pytest.raises(UserError, match="10 classes in val_class_total and 1 in test_class_total"):
        run(tmp_path, console=Console(file=io.StringIO()))


def test_a_path_that_no_folder_can_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x" * 5000]) == 2
    assert "File name too long" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a $x_{^", "猫", "a\nb\x01"])
def test_a_name_is_text_in_figures(tmp_path: Path, name: str) -> None:
    rows = worlds.sweep(("standard",), ("standard", 0.5), (1.0,))
    worlds.write(tmp_path, [row | {"dataset": name} for row in rows])
    run(tmp_path, console=Console(file=io.StringIO()))
    ElementTree.parse(tmp_path / "pareto.svg")
