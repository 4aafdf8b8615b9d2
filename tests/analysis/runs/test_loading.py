from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.runs.loading import load
from rkd_core.errors import UserError
from tests.analysis import worlds


def late(run_id: str, family: str, minutes: int, **columns: object) -> worlds.Row:
    started = worlds.EPOCH + timedelta(minutes=minutes)
    return worlds.student(run_id, family=family, started_at=started, **columns)


def ids(table: pa.Table) -> list[str]:
    return sorted(table["run_id"].to_pylist())


def teacher(run_id: str, **columns: object) -> worlds.Row:
    defaults = {"stage": "teacher", "teacher_id": None, "teacher_objective": "standard"}
    return worlds.row(run_id=run_id, family="t", **{**defaults, **columns})


def test_the_runs_of_the_plan_are_compared_and_their_teachers_found(tmp_path: Path) -> None:
    rows = [
        teacher("t1"),
        teacher("t2"),
        worlds.student("a", teacher_id="t1"),
        worlds.student("b", student=0.5, teacher_id="t1"),
        late("newer", "other", 99, teacher_id="t2"),
    ]
    runs = load(worlds.write(tmp_path, rows, planned=["a", "b", "never-run"]))
    assert ids(runs.students) == ["a", "b"]
    assert ids(runs.teachers) == ["t1"]
    assert runs.notes == ("1 of 3 planned trainings have no record yet",)
    assert ids(load(tmp_path, run_ids=["b"]).students) == ["b"]


def test_without_a_plan_the_family_started_last_is_compared(tmp_path: Path) -> None:
    rows = [
        late("a", "early", 5),
        late("b", "early", 0, student=0.5),
        late("c", "latest", 3),
        late("d", "latest", 6, student=0.5),
        late("e", "latest", 2, student=1.0),
        late("f", "undated", 0) | {"started_at": None},
    ]
    runs = load(worlds.write(tmp_path, rows))
    assert ids(runs.students) == ["c", "d", "e"]
    (note,) = runs.notes
    assert note.startswith("3 students of 2 other families left out; this is family latest")
    assert "early, undated" in note


def test_a_family_can_be_chosen_whatever_the_plan_holds(tmp_path: Path) -> None:
    rows = [late("a", "early", 0), late("b", "latest", 9), late("c", "early", 1, student=0.5)]
    worlds.write(tmp_path, rows, planned=["b"])
    assert ids(load(tmp_path, family="early").students) == ["a", "c"]
    with pytest.raises(UserError, match="no completed student of family absent; there is latest"):
        load(tmp_path, family="absent")


def test_runs_that_did_not_complete_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [
        worlds.student("a"),
        worlds.student("b", student=0.5, status="failed", val_class_correct=[0, 0]),
        worlds.student("c", student=1.0, status="failed"),
        worlds.student("d", student=0.2, status="pruned"),
        worlds.student("e", student=0.2, status="failed", family="another sweep"),
        teacher("t", status="failed"),
    ]
    runs = load(worlds.write(tmp_path, rows))
    assert ids(runs.students) == ["a"]
    assert runs.notes == ("3 failed runs left out", "1 pruned run left out")


def test_folders_without_comparable_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "absent")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="is not a folder"):
        load(file)
    results = tmp_path / "results"
    results.mkdir()
    with pytest.raises(UserError, match="has no records folder"):
        load(results)
    (results / "records").mkdir()
    with pytest.raises(UserError, match="holds no records; run"):
        load(results)
    worlds.write(results, [teacher("t"), worlds.student("a", status="failed")], planned=["b"])
    with pytest.raises(UserError, match="holds no records of the planned runs"):
        load(results)
    with pytest.raises(UserError, match="holds no completed student"):
        load(results, run_ids=["a", "t"])
    worlds.write(results, [worlds.student("n") | {"family": None}])
    with pytest.raises(UserError, match="record n is completed but has no family"):
        load(results, run_ids=["n"])
    pq.write_table(pa.table({"x": [1]}), results / "records" / "foreign.parquet")
    with pytest.raises(UserError, match=r"foreign\.parquet is not a record"):
        load(results, family="family-s")


@pytest.mark.parametrize(
    "plan",
    [
        *("{", "[]", "{}", '{"run_ids": 3}', '{"run_ids": [3]}', "[" * 10**5),
    ],
    ids=lambda plan: plan[:30],
)
def test_a_plan_that_is_none(tmp_path: Path, plan: str) -> None:
    worlds.write(tmp_path, [worlds.student("a")])
    (tmp_path / "plan.json").write_text(plan)
    with pytest.raises(UserError, match=r"plan\.json is not the plan of a sweep"):
        load(tmp_path)


def test_an_empty_plan_is_a_plan(tmp_path: Path) -> None:
    worlds.write(tmp_path, [worlds.student("a")])
    (tmp_path / "plan.json").write_text(json.dumps({"run_ids": []}))
    with pytest.raises(UserError, match="no records of the planned runs"):
        load(tmp_path)


def test_methods_go_with_the_family_they_share_all_but_a_teacher_with(tmp_path: Path) -> None:
    spec = {"data": {}, "architecture": "resnet20", "scale_by_classes": False}
    own, other = (json.dumps(spec | {"recipe": {"epochs": n}}) for n in (1, 2))
    newer, cut = (  # with fields that records of the grid, being older, do not have
        json.dumps(spec | {"recipe": {"epochs": 1}, "data": {"classes": n, "class_seed": 0}})
        for n in (None, 5)
    )
    changed = json.dumps(json.loads(own) | {"network_digest": "0" * 64})
    common = {"data_fingerprint": "data"}
    rows = [
        teacher("t"),
        worlds.student("a", teacher_id="t", spec=own, **common),
        worlds.variant("kd", "kd", spec=own, **common),
        worlds.variant("elsewhere", "kd", family="other", spec=other, **common),
        worlds.variant("failed", "kd", seed=1, status="failed", spec=own, **common),
    ]
    alone = {"family": "alone", "teacher_id": None}
    rows += [
        worlds.variant("one", "one_hot", spec=own, **alone, **common),
        worlds.variant("newer", "one_hot", seed=1, spec=newer, **alone, **common),
        worlds.variant("some-classes", "one_hot", spec=cut, **alone, **common),
        worlds.variant("longer", "one_hot", spec=other, **alone, **common),
        worlds.variant("other-data", "one_hot", spec=own, data_fingerprint="other", **alone),
        worlds.variant("other-network", "one_hot", spec=changed, **alone, **common),
        worlds.variant("unknown", "one_hot", spec="no spec", **alone, **common),
    ]
    runs = load(worlds.write(tmp_path, rows))
    assert ids(runs.students) == ["a"]
    assert ids(runs.variants) == ["kd", "newer", "one"]
    assert runs.notes == ("1 failed run left out",)
