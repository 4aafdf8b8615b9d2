"""Matrices of predictions: rows, cache and refused files."""

import json
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.runs.predictions import HeldOutPredictions, Predictions, load, load_held_out
from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.records import predictions

IMAGES, CLASSES = 30, 4
RUNS = ["a", "b", "c"]
LABELS = np.arange(IMAGES) % CLASSES


def logits_of(run_id, split="val"):
    seed = sum(map(ord, run_id + split))
    return np.random.default_rng(seed).standard_normal((IMAGES, CLASSES)).astype(np.float32)


def write(out, run_id, split="val", labels=LABELS, data="data", seed=""):
    logits = logits_of(run_id + seed, split)
    given = np.arange(IMAGES), labels, logits, logits.argmax(axis=1)
    content = predictions.serialize(run_id, split, data, *given, "full")
    path = predictions.file_of(out, split, run_id)
    path.unlink(missing_ok=True)
    predictions.publish(out, run_id, {split: content})
    return path


def record(out, run_id, **changes):
    row = {"run_id": run_id, "status": "completed", "data_fingerprint": "data"}
    records.write(out / "records", row | {"schema_version": 1} | changes)


@pytest.fixture(name="out")
def results_of_three_runs(tmp_path):
    for run_id in RUNS:
        record(tmp_path, run_id)
        for split in predictions.SPLITS:
            write(tmp_path, run_id, split)
    return tmp_path


def expected(run_ids, split="val"):
    return np.array([logits_of(r, split).argmax(axis=1) == LABELS for r in run_ids])


def age(out, monkeypatch):
    """Make the files old enough to be identified by their times."""
    monkeypatch.setattr("rkd_core.storage.local._YOUNG", -1.0)


@pytest.mark.parametrize("cached", [False, True])
def test_every_column_by_run_and_image(out, monkeypatch, cached):
    age(out, monkeypatch)
    for _ in range(1 + cached):
        found = load(out)
    assert found.run_ids == tuple(RUNS)
    assert found.image.tolist() == list(range(IMAGES))
    assert found.label.tolist() == LABELS.tolist()
    assert found.values.dtype == bool
    assert (found.values == expected(RUNS)).all()
    assert isinstance(found.values, np.memmap) == cached
    with pytest.raises(ValueError, match="read-only"):
        found.values[0, 0] = True
    predicted = load(out, column="predicted").values
    assert predicted.tolist() == [logits_of(r).argmax(axis=1).tolist() for r in RUNS]
    values = load(out, column="label_log_probability").values
    one = predictions.parse(path := predictions.file_of(out, "val", "b"), path.read_bytes())
    assert values[1].tolist() == one.columns["label_log_probability"].tolist()


def test_runs_come_in_the_given_order(out):
    for run_ids in (["c", "a"], ["b"], ["c", "b", "a"], ["a", "b", "c"]):
        found = load(out, run_ids)
        assert found.run_ids == tuple(run_ids)
        assert (found.values == expected(run_ids)).all()
        assert not found.values.flags.writeable


def test_the_runs_of_the_plan_that_are_completed(out):
    record(out, "d", status="failed", cause="boom")
    (out / "plan.json").write_text(json.dumps({"run_ids": ["d", "c", "b"]}))
    assert load(out).run_ids == ("b", "c")


def test_test_predictions_are_of_another_type_which_selection_never_loads(out):
    found = load_held_out(out)
    assert (found.values == expected(RUNS, "test")).all()
    assert not isinstance(found, Predictions)
    assert not issubclass(Predictions, HeldOutPredictions)
    folder = Path(analysis.__file__).parent / "selection"
    sources = [path.read_text() for path in folder.rglob("*.py")]
    assert not [s for s in sources if "HeldOutPredictions" in s or "load_held_out" in s]


def test_only_files_that_changed_are_read_again(out, monkeypatch):
    age(out, monkeypatch)
    load(out)
    write(out, "b", seed="again")
    record(out, "d")
    write(out, "d")
    read = []
    parse = predictions.parse
    monkeypatch.setattr(predictions, "parse", lambda *a: read.append(a[0].stem) or parse(*a))
    found = load(out)
    assert {*read} == {"b", "d"}
    assert (found.values[[0, 2, 3]] == expected(["a", "c", "d"])).all()
    assert (found.values[1] == (logits_of("bagain").argmax(axis=1) == LABELS)).all()
    read.clear()
    assert (load(out).values == found.values).all()
    assert (load(out, ["a", "c"]).values == expected(["a", "c"])).all()
    assert read == []


def test_a_damaged_or_unwritable_cache_costs_only_time(out, monkeypatch):
    age(out, monkeypatch)
    load(out)
    cache = out / "predictions" / "val" / ".correct"
    whole = cache.read_bytes()
    for position in [*range(0, len(whole), 11), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[position] ^= 1
        cache.unlink()
        cache.write_bytes(damaged)
        assert (load(out).values == expected(RUNS)).all()
    cache.write_bytes(b"")
    assert (load(out).values == expected(RUNS)).all()
    cache.unlink()
    cache.mkdir()
    assert (load(out).values == expected(RUNS)).all()


def test_missing_parts_are_named_with_the_command_that_computes_them(out):
    predictions.file_of(out, "val", "b").unlink()
    with pytest.raises(UserError, match=r"b\.parquet is missing; compute it with: python -m sweep"):
        load(out)
    assert load(out, ["a", "c"]).run_ids == ("a", "c")
    with pytest.raises(UserError, match="has no completed run x"):
        load(out, ["a", "x"])
    with pytest.raises(UserError, match="have no column logits; there are correct, predicted"):
        load(out, column="logits")
    with pytest.raises(UserError, match="no completed runs; run the sweep first"):
        load(out / "empty")


def test_predictions_of_other_data_or_other_images_are_refused(out, monkeypatch):
    age(out, monkeypatch)
    path = write(out, "b", data="other")
    with pytest.raises(UserError, match=f"{path} holds predictions for another data set"):
        load(out)
    path = write(out, "b", labels=LABELS[::-1].copy())
    with pytest.raises(UserError, match=r"\.parquet has other images than the predictions of the"):
        load(out)
    assert load(out, ["b"]).label.tolist() == LABELS[::-1].tolist()
    assert load(out, ["a", "c"]).label.tolist() == LABELS.tolist()
