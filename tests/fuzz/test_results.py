"""The JSON files of a results folder, and whole sweeps' records with values that make no sense."""

import io
import json
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from rich.console import Console

from analysis.select import main as select_main
from analysis.select import run as select
from analysis.selection.rule_options import Rule
from rkd_core import records
from rkd_core.datasets import load
from rkd_core.specs import DataOptions
from sweeps.folder.ownership import check_folder
from sweeps.verify import main as verify_main
from tests.analysis import worlds
from tests.fuzz.cases import (
    REFUSED,
    attempt,
    changed_json,
    edited,
    edits,
    fuzz,
    json_changes,
    json_forms,
    nasty_text,
)

ROWS = worlds.sweep(("standard", 1.0), ("standard", 0.5), (1.0,), classes=3)


@pytest.fixture(name="out")
def sound_results(tmp_path):
    return worlds.write(tmp_path / "out", ROWS, planned=[row["run_id"] for row in ROWS])


@pytest.fixture(name="digits", scope="module")
def digits_as_they_are():
    data = load("digits", DataOptions())
    return lambda: data  # which hypothesis need not print


# ---- JSON -------------------------------------------------------------------------------------

OWNER = {"dataset": "digits", "fingerprint": "x" * 64}


@fuzz(600, changes=json_changes, form=json_forms, by_bytes=st.booleans(), places=edits())
def test_ownership_of_the_folder(tmp_path, digits, changes, form, by_bytes, places):
    owner = OWNER | {"fingerprint": digits().fingerprint}
    content = changed_json(owner, changes, form)
    if by_bytes:
        content = edited(json.dumps(owner).encode(), places)
    (tmp_path / "dataset.json").write_bytes(content)
    refused = attempt(lambda: check_folder(tmp_path, "digits", digits()), tmp_path) is REFUSED
    if not refused:
        assert digits().fingerprint.encode() in content.replace(b"\0", b"")
    assert verify_main([str(tmp_path)]) in (0, 2)


@fuzz(150, changes=json_changes, form=json_forms, by_bytes=st.booleans(), places=edits())
def test_plans(out, changes, form, by_bytes, places):
    path = out / "plan.json"
    plan = {"command": ["pareto"], "run_ids": [row["run_id"] for row in ROWS]}
    content = changed_json(plan, changes, form)
    path.write_bytes(edited(json.dumps(plan).encode(), places) if by_bytes else content)
    found = attempt(lambda: chosen(out), path, out, "no completed run is standard distillation")
    assert found is REFUSED or found["combinations"]


def chosen(out, **options):
    return select(out, figures=False, console=Console(file=io.StringIO()), **options)


# ---- Records ----------------------------------------------------------------------------------

COUNTS = st.lists(
    st.one_of(
        st.integers(0, 20), st.sampled_from([-1, 0, 2**31, 2**62, 2**63 - 1, -(2**63), None])
    ),
    max_size=4,
)
FLOATS = st.sampled_from([None, 0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), float("inf"), 1e308])
VALUES = {
    "run_id": st.none(),
    "teacher_id": st.one_of(st.none(), nasty_text),
    "family": st.one_of(st.none(), nasty_text),
    "stage": st.sampled_from([None, "", "teacher", "student", "a\nb"]),
    "teacher_objective": st.sampled_from([None, "", "standard", "robust", "balanced", "other"]),
    "student_objective": st.sampled_from([None, "", "standard", "robust", "balanced", "other"]),
    "alpha_t": FLOATS,
    "alpha_s": FLOATS,
    "temperature": FLOATS,
    "dataset": st.one_of(st.none(), nasty_text, st.just("[bold] $x_{^")),
    "class_names": st.one_of(st.none(), st.lists(st.one_of(st.none(), nasty_text), max_size=4)),
    "architecture": st.one_of(st.none(), nasty_text),
    "seed": st.sampled_from([None, 0, -1, 2**63 - 1, -(2**63)]),
    "val_class_total": st.one_of(st.none(), COUNTS),
    "val_class_correct": st.one_of(st.none(), COUNTS),
    "test_class_total": st.one_of(st.none(), COUNTS),
    "test_class_correct": st.one_of(st.none(), COUNTS),
    "val": st.lists(st.integers(0, 20), max_size=4),
    "test": st.lists(st.integers(0, 20), max_size=4),
    "val_average_accuracy": FLOATS,
    "started_at": st.sampled_from([None, worlds.EPOCH]),
    "status": st.sampled_from([None, "", "failed", "pruned", "completed", "a\nb"]),
    "schema_version": st.sampled_from([None, 0, 2, 2**63 - 1]),
}
change = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), VALUES[name])
)


def accuracy(row, split):
    return sum(row[f"{split}_class_correct"]) / sum(row[f"{split}_class_total"])


@fuzz(
    100,
    changes=st.lists(st.tuples(st.integers(0, len(ROWS) - 1), change), min_size=1, max_size=4),
    everywhere=st.booleans(),
    worst_k=st.sampled_from([1, 1, 2, 3, 4, 0]),
)
def test_values_that_make_no_sense(tmp_path, changes, everywhere, worst_k):
    rows = [dict(row) for row in ROWS]
    for place, (name, value) in changes:
        for row in rows if everywhere and name != "run_id" else [rows[place]]:
            if name in ("val", "test"):  # counts that fit each other
                row[f"{name}_class_total"] = value
                row[f"{name}_class_correct"] = [count // 2 for count in value]
            else:
                row[name] = value
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    folder = tmp_path / "out" / "records"
    folder.mkdir(parents=True)
    try:
        for number, row in enumerate(rows):
            name = row["run_id"] or f"none{number}"
            table = pa.Table.from_pylist(
                [{column: row.get(column) for column in records.SCHEMA.names}],
                schema=records.SCHEMA,
            )
            pq.write_table(table, folder / f"{name}.parquet")
    except UnicodeEncodeError:
        return
    found = attempt(lambda: chosen(tmp_path / "out", rule=Rule(worst_k)), "")
    if found is REFUSED:
        return
    by_id = {row["run_id"]: row for row in rows}
    for figures in (found["selected"], found["standard_distillation"]):
        used = [by_id[run_id] for run_id in figures["run_ids"]]
        for split in ("val", "test"):
            mean = np.mean([accuracy(row, split) for row in used])
            assert math.isclose(figures[f"{split}_average_accuracy"], mean)
            assert 0 <= figures[f"{split}_worst_class_accuracy"] <= mean + 1e-9


@fuzz(4, text=st.one_of(nasty_text, st.sampled_from(["$x_{^$", "a_b", "[bold]", "\\alpha", "猫"])))
def test_names_in_figures(tmp_path, text):
    rows = [row | {"dataset": text, "architecture": text} for row in ROWS]
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    try:
        out = worlds.write(tmp_path / "out", rows)
    except UnicodeEncodeError:
        return
    select(out, console=Console(file=io.StringIO()))
    assert (out / "pareto.png").stat().st_size > 10_000


# ---- Command lines ----------------------------------------------------------------------------


@fuzz(
    200,
    which=st.sampled_from([verify_main, select_main]),
    path=st.one_of(
        nasty_text, st.sampled_from(["", "~", "/proc", "x" * 5000, "a" * 300, "/dev/null"])
    ),
    more=st.lists(
        st.one_of(
            nasty_text,
            st.sampled_from(
                ["--worst-k", "--margin", "nan", "-1", "1e999", "--family", "--no-figures"]
            ),
        ),
        max_size=3,
    ),
)
def test_command_lines(tmp_path, capsys, monkeypatch, which, path, more):
    monkeypatch.chdir(tmp_path)
    if "\0" in path or any("\0" in text for text in more):  # no command line can hold it
        return
    try:
        code = which([path, *more])
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    if "-h" not in [path, *more]:
        assert code == 2
        assert 0 < len(printed.err) < 12_000
    assert list(tmp_path.iterdir()) == []
