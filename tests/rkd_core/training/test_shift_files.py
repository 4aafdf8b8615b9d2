"""Shifts of trained students, fitted at the end of a training or later from stored networks."""

import numpy as np
import pytest
import torch

from rkd_core.datasets.array_data import ArrayData
from rkd_core.metrics import shift_family
from rkd_core.models.inference import logits_of
from rkd_core.models.predictor import rebuild
from rkd_core.records import shifts
from rkd_core.results import artifacts, ledger
from rkd_core.training import train
from rkd_core.training.shift_files import compute_missing
from tests.rkd_core.training.test_loop import CPU, student_spec, teacher_spec


@pytest.fixture(scope="module", name="trained")
def teacher_and_students(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    teacher = teacher_spec()
    specs = [teacher, *(student_spec(teacher, digits.fingerprint, temperature=t) for t in (1, 3))]
    return out, specs, train(specs, data=digits, out=out, execution=CPU)


def test_every_student_has_shifts_and_no_teacher_has(trained):
    out, _, (teacher, *students) = trained
    names = {path.stem for path in (out / "shifts").iterdir()}
    assert names == {row["run_id"] for row in students}
    assert teacher["run_id"] not in names


def test_counts_are_those_of_the_stored_network(digits, trained):
    out, _, (_, student, _) = trained
    artifact = artifacts.load(out / "artifacts", student["run_id"])
    data = ArrayData(artifact.spec, digits, CPU)
    model = rebuild(artifact).to(memory_format=torch.channels_last)
    for row in shifts.read(out, [student["run_id"]]).to_pylist():
        logits = logits_of(model, data.test, CPU) + torch.tensor(row["shift"], dtype=torch.float32)
        right = digits.test.labels[logits.argmax(1).numpy() == digits.test.labels]
        assert row["test_class_correct"] == np.bincount(right, minlength=10).tolist()
        assert row["test_class_total"] == student["test_class_total"]
        assert row["val_class_total"] == student["val_class_total"]


def test_shifts_that_are_missing_are_computed_to_the_same_bytes(digits, trained):
    out, _, rows = trained
    path = shifts.path_of(out, rows[1]["run_id"])
    before = path.read_bytes()
    path.unlink()
    ids = [row["run_id"] for row in rows[1:]] + ["unknown"]
    assert compute_missing(out, shifts.missing(out, ids), digits, CPU) == []
    assert path.read_bytes() == before
    path.unlink()
    compute_missing(out, ids, digits, CPU, stop=lambda: True)
    assert not path.exists()
    compute_missing(out, ids, digits, CPU)
    assert path.read_bytes() == before


def test_a_damaged_artifact_is_named_and_the_others_are_computed(digits, trained, tmp_path):
    out, specs, rows = trained
    train(specs, data=digits, out=tmp_path, execution=CPU, shifts=False)
    assert not (tmp_path / "shifts").exists()
    damaged, other = (row["run_id"] for row in rows[1:])
    (tmp_path / "artifacts" / damaged / "model.json").write_text("{}")
    (problem,) = compute_missing(tmp_path, [damaged, other], digits, CPU)
    assert damaged in problem
    assert shifts.missing(tmp_path, [damaged, other]) == [damaged]
    assert shifts.path_of(tmp_path, other).read_bytes() == shifts.path_of(out, other).read_bytes()
    ledger.set_aside(tmp_path, other)
    assert shifts.missing(tmp_path, [other]) == [other]


def test_every_alpha_has_a_row(trained):
    out, _, rows = trained
    table = shifts.read(out, [row["run_id"] for row in rows])
    assert table["alpha"].to_pylist() == [*shift_family.ALPHAS] * 2
