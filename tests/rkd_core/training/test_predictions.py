"""Predictions that a training keeps: they give the counts of its record."""

import dataclasses

import numpy as np
import pytest

from rkd_core import methods, records
from rkd_core.device.execution import Execution
from rkd_core.records import predictions
from rkd_core.results import artifacts
from rkd_core.spec_options import HoldoutRule
from rkd_core.specs import Derivation
from rkd_core.storage import bundles
from rkd_core.training import train
from tests.rkd_core.training.test_logit_shift import shift_spec
from tests.rkd_core.training.test_loop import CPU, RECIPE, student_spec, teacher_spec
from tests.rkd_core.training.test_variants import ON_LOGITS, RULE, variant_spec

SHORT = {"recipe": RECIPE.model_copy(update={"epochs": 1})}


def read(out, split, run_id):
    path = predictions.file_of(out, split, run_id)
    return predictions.parse(path, path.read_bytes())


def assert_counts_agree(out, row, data):
    for split in predictions.SPLITS:
        found = read(out, split, row["run_id"])
        assert found.data_fingerprint == row["data_fingerprint"]
        images = {"val": data.val, "test": data.test}[split]
        rows = {"val": data.val_indices, "test": data.test_indices}[split]
        label, predicted = found.columns["label"], found.columns["predicted"]
        assert label.tolist() == images.labels.tolist()
        assert found.columns["image"].tolist() == rows.tolist()
        correct = np.bincount(label[predicted == label], minlength=data.classes)
        assert correct.tolist() == row[f"{split}_class_correct"]
        losses = np.bincount(label, -found.columns["label_log_probability"], data.classes)
        losses /= np.bincount(label, minlength=data.classes)
        np.testing.assert_allclose(losses, row[f"{split}_class_log_loss"], rtol=1e-5)
        if "logits" in found.columns:  # rounded to float16, so that near ties may differ
            again = found.columns["logits"].argmax(axis=1)
            assert (again == predicted).mean() > 0.99


def every_method(fingerprint):
    """Return the specs of two teachers and of a student of each method."""
    teacher, initial = teacher_spec(**SHORT), teacher_spec(**SHORT, held_out=RULE)
    judged = student_spec(initial, fingerprint).teacher
    specs = [teacher, initial]
    for name in methods.descriptions():
        method = methods.create(name)
        if method.cell is not None:
            fields = {"objective": method.cell.objective, "alpha": method.cell.alpha}
            specs.append(student_spec(teacher, fingerprint, **SHORT, **fields))
            continue
        changes = {"initial": judged} if isinstance(method.needs.holdout, HoldoutRule) else {}
        above = None if method.needs.teacher is None else teacher
        specs.append(variant_spec(above, fingerprint, name, **SHORT, **changes))
    return specs


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_counts_recomputed_from_predictions_are_those_of_the_record(digits, tmp_path, precision):
    specs = every_method(digits.fingerprint)
    source = student_spec(specs[0], digits.fingerprint).teacher
    shifted = Derivation(by="shifted", source=source)
    specs.append(teacher_spec(objective="tradeoff", alpha=0.5, derived=shifted, multipliers=None))
    specs.append(shift_spec(digits.fingerprint, specs[0]))
    execution = Execution("cpu", precision)
    rows = train(specs, data=digits, out=tmp_path, execution=execution)
    assert len({row["run_id"] for row in rows}) > len(methods.descriptions()) - 1
    for row in rows:
        assert_counts_agree(tmp_path, row, digits)


def test_predictions_of_an_array_are_those_of_single_runs(digits, tmp_path):
    teacher = teacher_spec(**SHORT)
    specs = [variant_spec(teacher, digits.fingerprint, name, **SHORT) for name in ON_LOGITS[:3]]
    together, apart = tmp_path / "together", tmp_path / "apart"
    for out in (together, apart):
        train([teacher], data=digits, out=out, execution=CPU)
    rows = train(specs, data=digits, out=together, execution=CPU)
    for spec, row in zip(specs, rows, strict=True):
        train([spec], data=digits, out=apart, execution=CPU)
        for split in predictions.SPLITS:
            one, other = (
                predictions.file_of(out, split, row["run_id"]).read_bytes()
                for out in (together, apart)
            )
            assert one == other


def test_the_largest_logits_or_none(digits, tmp_path):
    spec = teacher_spec(**SHORT)
    for keep in ("top", "none", "full"):
        out = tmp_path / keep
        (row,) = train([spec], data=digits, out=out, execution=CPU, keep_predictions=keep)
        names = set(bundles.checksums(out / "artifacts" / row["run_id"], row["run_id"]))
        if keep == "none":
            assert not (out / "predictions").exists()
            assert not {name for name in names if "predictions" in name}
            continue
        assert {"predictions_val.parquet", "predictions_test.parquet"} <= names
        assert_counts_agree(out, row, digits)
        assert ("top_logits" in read(out, "val", row["run_id"]).columns) == (keep == "top")
    # The records do not say what was kept.
    kept = [records.read(tmp_path / keep / "records") for keep in ("top", "none")]
    assert kept[0].column_names == kept[1].column_names


def test_a_training_without_a_folder_keeps_nothing(digits, monkeypatch):
    monkeypatch.setattr(predictions, "serialize", None)
    train([teacher_spec(**SHORT)], data=digits, execution=CPU)


def test_predictions_name_the_rows_of_the_original_split(digits, tmp_path):
    changed = dataclasses.replace(digits, val_indices=digits.val_indices + 1000)
    (row,) = train([teacher_spec(**SHORT)], data=changed, out=tmp_path, execution=CPU)
    assert_counts_agree(tmp_path, row, changed)
    assert artifacts.committed_predictions(tmp_path / "artifacts", row["run_id"])
