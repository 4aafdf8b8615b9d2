"""The last answer is reused if nothing has changed, and computed again otherwise."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.report import page
from analysis.runs import loading
from analysis.select import run
from analysis.selection import outcome
from analysis.selection.rule_options import Rule, add_options, rule_of
from analysis.views import answer_cache, figure
from rkd_core import records
from sweeps.cli.parse import parse
from tests.analysis import worlds

FILES = ("selection.json", "pareto.png", "pareto.svg", "report.html")
ROWS = worlds.sweep(("standard",), ("standard", 0.0, 0.5), (1.0,))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the computed parts in order, with fakes for figures and report."""
    done: list[str] = []
    assess = outcome.assess

    def counted(*arguments: Any) -> Any:
        done.append("selection")
        return assess(*arguments)

    def draw(_: Any, folder: Path) -> list[Path]:
        done.append("pictures")
        return [_written(folder / name) for name in FILES[1:3]]

    def render(_: Any, __: Any, folder: Path, *, images: bool) -> Path:
        assert images
        done.append("report")
        return _written(folder / FILES[3])

    monkeypatch.setattr(outcome, "assess", counted)
    monkeypatch.setattr(figure, "save", draw)
    monkeypatch.setattr(page, "save", render)
    return done


def _written(path: Path) -> Path:
    path.write_text("drawn", encoding="utf-8")
    return path


ALL = ["selection", "pictures", "report"]


def answer(results: Path, width: int = 80, **options: Any) -> tuple[dict[str, Any], str]:
    """Select; return the content and all printed lines but the last, which names the files."""
    console = Console(file=io.StringIO(), width=width)
    content = run(results, console=console, **options)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return content, "\n".join(lines[:-1])


@pytest.fixture
def results(tmp_path: Path, computed: list[str]) -> Path:
    """A results folder with a finished selection."""
    worlds.write(tmp_path, ROWS)
    (tmp_path / "plan.json").write_text(
        json.dumps(
            {"written_at": "now", "command": ["x"], "run_ids": [row["run_id"] for row in ROWS]}
        )
    )
    answer(tmp_path)
    assert computed == ALL
    computed.clear()
    return tmp_path


def test_the_same_question_has_the_same_answer_without_work(
    results: Path, computed: list[str]
) -> None:
    first = answer(results, rule=Rule(estimate="raw"))
    computed.clear()
    before = {name: (results / name).stat().st_mtime_ns for name in FILES}
    again = answer(results, rule=Rule(estimate="raw"))
    assert again == first
    assert computed == []
    assert again[0] == json.loads((results / "selection.json").read_text(encoding="utf-8"))
    assert {name: (results / name).stat().st_mtime_ns for name in FILES} == before


def test_a_sweep_and_the_command_share_the_cached_answer(
    results: Path, computed: list[str]
) -> None:
    """Ask with the options of ``pareto.py`` and with those of ``analysis.select``."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    answer(results, run_ids=[row["run_id"] for row in ROWS], rule=parse([]).selection)
    answer(results, rule=rule_of(parser.parse_args([])))
    assert computed == []
    line = ["--margin", "0.02", "--group", "g=cat", "--group", "g=dog"]
    answer(results, rule=parse(line).selection)
    answer(results, rule=rule_of(parser.parse_args(line)))
    assert computed == ALL


def test_another_width_computes_the_text_alone(results: Path, computed: list[str]) -> None:
    narrow = answer(results, width=40)
    assert computed == ["selection"]
    assert narrow[1] != answer(results)[1]
    assert answer(results, width=40) == narrow
    assert computed == ["selection"]


@pytest.mark.parametrize(
    "options",
    [
        {"rule": Rule(2)},
        {"rule": Rule(margin="0.1")},
        {"rule": Rule(estimate="raw")},
        {"rule": Rule(weight=0.5)},
        {"family": "family-s"},
        {"target_regret": 0.5},
        {"run_ids": [row["run_id"] for row in ROWS[:-1]]},
    ],
)
def test_another_option(results: Path, computed: list[str], options: dict[str, Any]) -> None:
    answer(results, **options)
    assert computed == ALL
    answer(results, **options)
    assert computed == ALL


def test_a_file_that_an_option_names(results: Path, computed: list[str], tmp_path: Path) -> None:
    path = tmp_path / "groups.json"
    rule = Rule(group="some", groups_file=path)
    for classes in ([0, 1], [0, 2]):
        path.write_text(json.dumps({"some": [worlds.NAMES[label] for label in classes]}))
        computed.clear()
        answer(results, rule=rule)
        answer(results, rule=rule)
        assert computed == ALL


def _new(results: Path) -> None:
    records.write(results / "records", worlds.student("later", 0.0, 0.7))


def _changed(results: Path) -> None:
    path = results / "records" / f"{ROWS[0]['run_id']}.parquet"
    row = records.parse(path, path.read_bytes()).to_pylist()[0]
    path.write_bytes(records.serialize(row | {"train_seconds": 3.25}))


def _gone(results: Path) -> None:
    (results / "records" / f"{ROWS[-1]['run_id']}.parquet").unlink()


def _planned(results: Path) -> None:
    path = results / "plan.json"
    plan = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plan | {"run_ids": plan["run_ids"][:-1]}), encoding="utf-8")


@pytest.mark.parametrize("change", [_new, _changed, _gone, _planned])
def test_other_records_or_another_plan(
    results: Path, computed: list[str], change: Callable[[Path], None]
) -> None:
    change(results)
    answer(results)
    assert computed == ALL


def test_a_failure_that_a_success_replaces(results: Path, computed: list[str]) -> None:
    records.write(results / "records", worlds.student("later", 0.0, 0.7, status="failed"))
    answer(results)
    computed.clear()
    records.write(results / "records", worlds.student("later", 0.0, 0.7))
    answer(results)
    assert computed == ALL


def test_the_same_command_that_wrote_its_plan_again(results: Path, computed: list[str]) -> None:
    path = results / "plan.json"
    plan = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(plan | {"written_at": "later"}), encoding="utf-8")
    answer(results)
    assert computed == []


@pytest.mark.parametrize("part", ["program", "python", "numpy"])
def test_another_version_of_the_program(
    results: Path, computed: list[str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = answer_cache._program() | {part: "another"}
    monkeypatch.setattr(answer_cache, "_program", lambda: versions)
    answer(results)
    assert computed == ALL


@pytest.mark.parametrize("name", [*FILES, answer_cache.NAME])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_file_that_is_missing_or_changed_is_written_again(
    results: Path, computed: list[str], name: str, damage: str
) -> None:
    path = results / name
    before = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(before[:-3] + b"x" + before[-2:])
    answer(results)
    assert computed == ALL
    assert path.read_bytes() == before


def test_figures_that_are_not_requested_are_not_redrawn(results: Path, computed: list[str]) -> None:
    (results / "pareto.png").unlink()
    answer(results, figures=False)
    assert computed == []
    answer(results)
    assert computed == ALL


def test_without_figures_first(tmp_path: Path, computed: list[str]) -> None:
    worlds.write(tmp_path, ROWS)
    answer(tmp_path, figures=False)
    answer(tmp_path)
    assert computed == ["selection", *ALL]
    answer(tmp_path, figures=False)
    answer(tmp_path)
    assert computed == ["selection", *ALL]


def test_tables_are_always_written(results: Path, computed: list[str], tmp_path: Path) -> None:
    answer(results, tables=tmp_path / "tables")
    assert computed == ["selection"]
    assert list((tmp_path / "tables").iterdir())


def test_a_record_that_changes_meanwhile_is_not_forgotten(
    results: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = loading.load
    with monkeypatch.context() as patched:
        patched.setattr(loading, "load", lambda *a: (load(*a), _changed(results))[0])
        answer(results, rule=Rule(2))
    computed.clear()
    answer(results, rule=Rule(2))
    assert computed == ALL


def test_a_folder_that_cannot_be_written_still_answers(
    results: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("rkd_core.storage.files.replace_file", refuse)
    answer(results)
    assert computed == []
    answer(results, width=41)  # its text cannot be kept
    assert computed == ["selection"]
