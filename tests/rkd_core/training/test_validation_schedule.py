"""Interim validations in records, and trainings that stop early and continue."""

import pytest

from rkd_core import records
from rkd_core.models.inference import class_counts, predictions_of_all
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import MultiplierOptions, Recipe, run_id
from rkd_core.training import train
from rkd_core.training.validation_schedule import ValidationSchedule
from tests.rkd_core.training.arrays.test_arrays import apart_from_company
from tests.rkd_core.training.test_checkpoints import RECIPE, STEPS, Cut, cut_after
from tests.rkd_core.training.test_loop import CPU, colourful, student_spec, teacher_spec

ASCENT = MultiplierOptions(step_size=0.5, period=2, batch=20)


def spec(**changes):
    return teacher_spec(**({"architecture": "resnet8", "recipe": RECIPE} | changes))


def test_interim_validations_are_recorded_by_epoch():
    data = colourful()
    (row,) = train(
        [spec()], data=data, execution=CPU, validation_schedule=ValidationSchedule(every=2)
    )
    assert row["val_epochs"] == [2, 4]
    assert row["epochs_trained"] == row["epochs"] == 6
    total = row["val_class_total"]
    for correct in row["val_epoch_class_correct"]:
        assert len(correct) == len(total)
        assert all(0 <= c <= t for c, t in zip(correct, total, strict=True))


def test_interim_validations_do_not_change_training():
    data = colourful()
    robust = spec(objective="robust", multipliers=ASCENT)
    looked, not_looked = (
        train(
            [robust], data=data, execution=CPU, validation_schedule=ValidationSchedule(every=every)
        )[0]
        for every in (1, 100)
    )
    assert (looked.pop("val_epochs"), not_looked.pop("val_epochs")) == ([1, 2, 3, 4, 5], [])
    for row in (looked, not_looked):
        row.pop("val_epoch_class_correct")
    assert apart_from_company(looked) == apart_from_company(not_looked)


def test_interim_validations_measure_the_model_of_that_epoch(tmp_path):
    """Measure the weights of a checkpoint of that epoch again."""
    from rkd_core.datasets.array_data import ArrayData
    from rkd_core.models import build

    data, out = colourful(), tmp_path
    (whole,) = train(
        [spec()], data=data, execution=CPU, validation_schedule=ValidationSchedule(every=1)
    )
    (row,) = train([spec()], data=data, out=out, execution=CPU, until=3)
    assert row["val_class_correct"] == whole["val_epoch_class_correct"][2]
    state = Checkpoints(out, row["run_id"]).load(3 * STEPS)
    model = build("resnet8", data.classes, data.channels, data.image_size, seed=0)
    names = {k.removeprefix("model/"): v for k, v in state.items() if k.startswith("model/")}
    model.load_state_dict(names)
    array_data = ArrayData(spec(), data, CPU.prepared(data.image_size))
    ((predictions, _),) = predictions_of_all(
        [model.eval()], array_data.validation, array_data.execution
    )
    total, correct = class_counts(data.val.labels, predictions, data.classes)
    assert (total, correct) == (row["val_class_total"], row["val_class_correct"])


def test_one_that_stops_early_is_pruned_and_goes_on_to_the_record_of_one_that_did_not(tmp_path):
    data = colourful()
    teacher = spec()
    for name in ("whole", "parts"):
        train([teacher], data=data, out=tmp_path / name, execution=CPU)
    student = student_spec(
        teacher,
        data.fingerprint,
        architecture="resnet8",
        recipe=RECIPE,
        objective="tradeoff",
        alpha=0.7,
        multipliers=ASCENT,
    )
    options = {"data": data, "execution": CPU, "validation_schedule": ValidationSchedule(every=1)}
    (whole,) = train([student], out=tmp_path / "whole", **options)
    out, identity = tmp_path / "parts", run_id(student, data.fingerprint)
    for until in (2, 4):
        (row,) = train([student], out=out, until=until, **options)
        assert row == records.read(out / "records", [identity]).to_pylist()[0]
        assert (row["status"], row["epochs_trained"], row["epochs"]) == ("pruned", until, 6)
        assert row["val_epochs"] == list(range(1, until + 1))
        assert row["val_epoch_class_correct"][-1] == row["val_class_correct"]
        assert row["test_class_correct"] is None
        assert row["test_average_accuracy"] is None
        assert not (out / "artifacts" / identity).exists()
        assert Checkpoints(out, identity).newest() == until * STEPS
    (row,) = train([student], out=out, until=6, **options)
    assert apart_from_company(row) == apart_from_company(whole)
    weights = [
        (tmp_path / name / "artifacts" / identity / "weights.safetensors").read_bytes()
        for name in ("whole", "parts")
    ]
    assert weights[0] == weights[1]
    assert not (out / "checkpoints").exists() or not list((out / "checkpoints").iterdir())
    (again,) = train([student], out=out, until=2, **options)  # a completed one stays completed
    assert again == row


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_interim_validations_survive_a_restart(tmp_path, cut):
    data = colourful()
    options = {"data": data, "execution": CPU, "validation_schedule": ValidationSchedule(every=1)}
    (whole,) = train([spec()], **options)
    options |= {"out": tmp_path, "checkpoint_every": 1}
    with pytest.raises(Cut):
        train([spec()], report=cut_after(cut, []), **options)
    (row,) = train([spec()], **options)
    assert apart_from_company(row) == apart_from_company(whole)


def test_side_by_side_each_has_its_own(tmp_path):
    data = colourful()
    specs = [spec(), spec(objective="robust", multipliers=ASCENT)]
    options = {
        "data": data,
        "execution": CPU,
        "validation_schedule": ValidationSchedule(every=2),
        "until": 5,
    }
    together = train(specs, out=tmp_path / "a", **options)
    alone = [train([s], out=tmp_path / "b", **options)[0] for s in specs]
    for one, other in zip(together, alone, strict=True):
        assert apart_from_company(one) == apart_from_company(other)
        assert one["val_epochs"] == [2, 4, 5]


def test_more_epochs_than_there_are_is_all_of_them():
    data = colourful()
    short = spec(recipe=Recipe(epochs=2, batch_size=32))
    rows = [train([short], data=data, execution=CPU, until=n)[0] for n in (2, 100)]
    assert {row["status"] for row in rows} == {"completed"}
