"""Content of the page's file, read without a browser."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.report.__main__ import main
from analysis.report.page import render
from analysis.runs.loading import Runs
from analysis.selection.outcome import assess
from tests.analysis import worlds


def runs_of(rows: list[worlds.Row], notes: tuple[str, ...] = ()) -> Runs:
    students = worlds.table(row for row in rows if row["stage"] == "student" and not row["variant"])
    variants = worlds.table(row for row in rows if row["variant"])
    teachers = worlds.table(row for row in rows if row["stage"] == "teacher")
    return Runs(students, variants, teachers, notes, worlds.table(rows))


def page_of(rows: list[worlds.Row], results: Path) -> str:
    runs = runs_of(rows)
    return render(runs, assess(runs), results)


def payload(page: str) -> dict[str, Any]:
    packed = re.search(r'id="data">([^<]*)<', page)
    assert packed
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return content


class Reader(HTMLParser):
    """Elements and text of a page, scripts and styles apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.text.append(data)


def test_the_answer_comes_first_and_in_words(tmp_path: Path) -> None:
    worse = [worlds.student("plain", val_class_correct=[9, 5], test_class_correct=[9, 6])]
    better = worlds.student(
        "better", 0.5, "robust", 2.0, val_class_correct=[8, 8], test_class_correct=[7, 9]
    )
    text = " ".join(Reader(page_of([*worse, better], tmp_path)).text)
    assert "Worst class 60.0% → 70.0% on test, average +5.0 points" in text
    assert "Ship αₜ\u00a0=\u00a00.5, robust student, T\u00a0=\u00a02, instead of" in text


def test_standard_distillation_is_said_to_be_that(tmp_path: Path) -> None:
    text = " ".join(
        Reader(page_of([worlds.student("plain", val_class_correct=[9, 8])], tmp_path)).text
    )
    assert "Standard distillation: worst class " in text
    assert "which is standard distillation: nothing else is better by this rule" in text


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    rows = worlds.sweep(("standard", 0.5), ("standard", 0.5), (1.0,), seeds=2)
    assert page_of(rows, tmp_path) == page_of(rows, tmp_path)


def test_ten_thousand_records_are_less_than_five_megabytes(tmp_path: Path) -> None:
    levels = ["standard", *(k / 43 for k in range(44))]
    rows = worlds.sweep(levels, levels, (1.0, 2.0, 3.0, 4.0, 5.0), images=50)
    assert len(rows) > 10_000
    page = page_of(rows, tmp_path)
    assert len(payload(page)["pareto"]["grid"]["temperature"]) == 45 * 45 * 5
    assert len(page.encode()) < 5_000_000


def test_the_page_names_nothing_to_load(tmp_path: Path) -> None:
    page = page_of(worlds.sweep(("standard",), ("standard", 0.5), (1.0,)), tmp_path)
    assert "default-src 'none'" in page
    assert "connect-src" not in page
    assert not {"link", "img", "iframe"} & set(Reader(page).tags)
    assert not re.search(r"(src|href)\s*=", page)


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worlds.write(tmp_path, worlds.sweep(("standard",), ("standard", 0.5), (1.0,)))
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Wrote {tmp_path / 'report.html'}\n"
    assert "<h1>Worst class " in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--worst-k", "0"], "worst-k: k must be from 1"),
        (["--margin", "7"], "margin must be a fraction"),
        (["--family", "no"], "holds no completed student of family no"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    worlds.write(tmp_path, worlds.sweep(("standard",), ("standard", 0.5), (1.0,)))
    assert main([str(tmp_path), *options]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()
