"""The command on synthetic files: its output, its files and its refusals."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.papers.adult import PAPER
from sweeps.adult import main
from tests.rkd_core.tabular.adult_files import ROW, write_adult

ROOT = Path(__file__).resolve().parents[3]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="folder", scope="module")
def two_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adult(tmp_path_factory.mktemp("data") / "adult")


@pytest.fixture(name="run")
def command(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: object) -> tuple[int, str, str]:
        small = ["--data-dir", folder.parent, "--trees", 4, "--threads", 1]
        code = main([str(a) for a in (*small, *arguments)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_tables_beside_the_papers(run: Run) -> None:
    code, out, err = run("--seeds", 0, 1)
    assert (code, err) == (0, "")
    for words in (
        "450 rows",
        "a random 70/30 split",
        "seeds 0 1",
        "4 trees, depth 20",
        "in-sample",
    ):
        assert words in out
    assert "a resample of the rows (bootstrap); target 0.1 label + 0.9 score" in out
    for title in ("Table 8: Δ by sex and label", "Table 9: Δ by race, sex and label"):
        assert title in out
    lines = out.splitlines()
    after = lines.index("Table 9: Δ by race, sex and label")
    shown = [line.split()[:3] for line in lines[after + 2 : after + 22]]
    nine = [g for g in PAPER if g.race is not None]
    assert shown == [[g.race, g.sex, str(g.label)] for g in nine]


def test_the_chosen_options_are_reported(run: Run) -> None:
    chosen = ["--split", "published", "--encoding", "one-hot", "--cross-fit", 3, "--no-bootstrap"]
    code, out, _ = run("--seeds", 3, *chosen, "--threshold", 0.25, "--alpha", 0.5, "--depth", 4)
    assert code == 0
    assert "the published split, 300 for training and 150 for testing; seeds 3" in out
    assert "4 trees, depth 4, one-hot features; cross-fitted in 3 folds scores" in out
    assert "depth 4, of all rows; target 0.5 label + 0.5 score" in out
    assert "above 0.25" in out


def test_the_result_as_a_file(run: Run, tmp_path: Path) -> None:
    assert run("--seeds", 0, 5, "--out", tmp_path / "a.json")[0] == 0
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["options"]["seeds"] == [0, 5]
    assert content["options"]["alpha"] == 0.9
    assert not {"data_dir", "out", "threads"} & set(content["options"])
    rows = content["subgroups"]
    assert [row["paper_delta"] for row in rows] == list(PAPER.values())
    for rest in (
        {"sex": None},
        {"race": None},
        {"race": "any"},
    ):  # each a partition of the test set
        parts = [row for row in rows if _is(row, rest)]
        assert sum(row["rows"] for row in parts) == 135
        assert all(sum(p["per_seed"][s]["rows"] for p in parts) == 135 for s in (0, 1))
    assert content["models"]["teacher"]["paper_balanced_accuracy"] == 81.8
    assert run("--seeds", 0, 5, "--out", tmp_path / "a.csv", "--threads", 3)[0] == 0
    with (tmp_path / "a.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert [row["delta"] for row in table] == [
        "" if row["delta"] is None else str(row["delta"]) for row in rows
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json"]


def _is(row: dict[str, Any], rest: dict[str, str | None]) -> bool:
    if "sex" in rest:
        return row["sex"] is None
    return row["sex"] is not None and (row["race"] is None) == (rest["race"] is None)


def test_alpha_0_changes_no_example(run: Run, tmp_path: Path) -> None:
    run("--seeds", 0, 1, "--alpha", 0, "--out", tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert {row["delta"] for row in content["subgroups"]} <= {0.0, None}
    assert content["models"]["one_hot"]["per_seed"] == content["models"]["distilled"]["per_seed"]


def test_a_threshold_moves_rows_from_one_label_to_the_other(run: Run, tmp_path: Path) -> None:
    for threshold in (0, 1):
        out = tmp_path / f"{threshold}.json"
        run("--seeds", 0, "--threshold", threshold, "--out", out)
        models = json.loads(out.read_text())["models"]
        if threshold == 1:  # nothing is above it: all of label 0 is right, none of label 1
            assert {m["balanced_accuracy"] for m in models.values()} == {50.0}
        else:
            assert models["teacher"]["balanced_accuracy"] != 50.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha", "1.5"], "--alpha must be from 0 to 1, not 1.5"),
        (["--threshold", "nan"], "--threshold must be from 0 to 1, not nan"),
        (["--trees", "0"], "--trees must be 1 or more, not 0"),
        (["--cross-fit", "1"], "--cross-fit must be 0, or 2 or more folds, not 1"),
        (["--cross-fit", "200"], "training rows of seed 0 have one of the labels: at least 200"),
        (["--seeds"], "--seeds must be one or more different numbers"),
        (["--seeds", "1", "1"], "--seeds must be one or more different numbers"),
        (["--seeds", "-1"], "--seeds must be from 0 to 4294967295, not -1"),
        (["--split", "half"], "--split"),
        (["--tress", "3"], "--trees"),
        (["--data-dir", "nowhere/at/all"], "--data-dir nowhere/at/all is not a folder"),
        (["--out", "figures.txt"], "figures.txt must end in .json or .csv"),
        (["--out", "nowhere/at/all.csv"], "must be a file in a folder that exists"),
    ],
)
def test_bad_input_is_one_line(run: Run, arguments: list[str], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("adult.py: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_wrong_file_is_one_line(run: Run, tmp_path: Path) -> None:
    write_adult(tmp_path)
    with (tmp_path / "adult.test").open("a") as sink:
        sink.write("1, 2, 3\n")
    code, out, err = run("--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert f"{tmp_path}/adult.test, line 153, column education is missing" in err
    assert err.count("\n") == 1


def test_too_few_rows_of_a_label(run: Run, tmp_path: Path) -> None:
    write_adult(tmp_path)
    (tmp_path / "adult.data").write_text(f"{ROW}\n" * 9)
    code, out, err = run("--data-dir", tmp_path, "--split", "published")
    assert (code, out) == (2, "")
    assert "only 0 of the 9 training rows of seed 0 have one of the labels: at least 1 must" in err


def test_in_a_pipe_and_without_torch(folder: Path) -> None:
    script = str(ROOT / "sweeps" / "adult.py")
    code = (
        f"import runpy, sys\nsys.argv[0] = {script!r}\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally: print({'torch', 'ray', 'matplotlib'} & set(sys.modules), 'loaded')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--data-dir", str(folder), "--trees", "2", "--seeds", "0"],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "Table 9: Delta by race, sex and label" in done.stdout
    assert done.stdout.splitlines()[-1] == "set() loaded"
