import json
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from rkd_core.specs import (
    DataOptions,
    MultiplierOptions,
    Recipe,
    TeacherRef,
    TrainingSpec,
    family_id,
    run_id,
)

TEACHER = TrainingSpec(
    stage="teacher",
    dataset="digits",
    architecture="digits_cnn",
    objective="tradeoff",
    alpha=0.5,
    recipe=Recipe(epochs=3),
    multipliers=MultiplierOptions(),
)
STUDENT = TrainingSpec(
    stage="student",
    dataset="digits",
    architecture="digits_cnn",
    objective="standard",
    temperature=3,
    recipe=Recipe(epochs=3),
    teacher=TeacherRef(
        run_id=run_id(TEACHER, "data"),
        family=family_id(TEACHER, "data"),
        architecture="digits_cnn",
        objective="tradeoff",
        alpha=0.5,
    ),
)


def leaves(value, path=()):
    """Every leaf of nested models as (path, value)."""
    for name in type(value).model_fields:
        child = getattr(value, name)
        if isinstance(child, BaseModel):
            yield from leaves(child, (*path, name))
        else:
            yield (*path, name), child


def changed(model, path, value):
    name, *rest = path
    if rest:
        value = changed(getattr(model, name), rest, value)
    return model.model_copy(update={name: value})


@pytest.mark.filterwarnings("ignore:Pydantic serializer")  # "other" fits no number
@pytest.mark.parametrize("path", [p for p, _ in leaves(TEACHER) if p != ("dataset",)], ids=".".join)
def test_run_id_depends_on_every_field_but_the_name(path):
    assert run_id(changed(TEACHER, path, "other"), "data") != run_id(TEACHER, "data")


def test_run_id_ignores_the_datasets_name_and_depends_on_the_data():
    renamed = TEACHER.model_copy(update={"dataset": "moved"})
    assert run_id(renamed, "data") == run_id(TEACHER, "data")
    assert run_id(TEACHER, "other data") != run_id(TEACHER, "data")


def test_run_id_depends_on_the_version_of_the_mathematics(monkeypatch):
    before = run_id(TEACHER, "data")
    monkeypatch.setattr("rkd_core.specs.MATH_VERSION", 10**6)
    assert run_id(TEACHER, "data") != before


def test_run_id_is_the_same_in_another_process_and_for_equal_numbers():
    code = (
        "import sys; from rkd_core.specs import *;"
        "print(run_id(TrainingSpec.model_validate_json(sys.stdin.read()), 'data'))"
    )
    text = json.dumps(json.loads(STUDENT.model_dump_json()) | {"temperature": 3})
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == run_id(STUDENT, "data")


def test_run_ids_do_not_drift():
    """A change of this digest retrains everybody's results: it must be deliberate."""
    assert run_id(TEACHER, "data") == "f8c677d27c6a73f46ee5"
    assert run_id(STUDENT, "data") == "f7a7a155973f732ed49e"


def test_defaults_never_change():
    """Run ids leave out what is at its default, so new fields change no id: add, never edit."""
    assert json.loads(DataOptions().model_dump_json()) == {
        "imbalance": None,
        "profile": "exponential",
        "limit_train": None,
        "subset_seed": 0,
        "image_size": None,
        "split_seed": 0,
        "stratified": False,
    }
    assert json.loads(Recipe(epochs=1).model_dump_json(exclude={"epochs"})) == {
        "batch_size": 128,
        "drop_last": True,
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 1e-4,
        "decay_norm": True,
        "schedule": "cosine",
        "warmup": 0.0,
        "milestones": [],
        "decay": 0.1,
        "crop_padding": 0,
        "flip": False,
        "normalization": "per_channel",
    }
    assert json.loads(MultiplierOptions().model_dump_json()) == {
        "step_size": 0.1,
        "period": 32,
        "batch": 4096,
        "val_labels": "teacher",
        "averaged_iterates": None,
    }
    optional = {
        "data",
        "alpha",
        "temperature",
        "multipliers",
        "scale_by_classes",
        "teacher",
        "seed",
    }
    plain = TEACHER.model_copy(update={"objective": "standard", "alpha": None, "multipliers": None})
    dumped = json.loads(plain.model_dump_json(include=optional, exclude={"data"}))
    assert dumped == {
        "alpha": None,
        "temperature": None,
        "multipliers": None,
        "scale_by_classes": False,
        "teacher": None,
        "seed": 0,
    }


def test_alpha_0_has_no_multipliers_to_differ_in():
    balanced = TEACHER.model_copy(update={"alpha": 0.0, "multipliers": None})
    assert TrainingSpec.model_validate(balanced.model_dump()) == balanced
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate(TEACHER.model_dump() | {"alpha": 0.0})


def test_lineage_is_in_the_students_id():
    other = STUDENT.model_copy(
        update={"teacher": STUDENT.teacher.model_copy(update={"run_id": "another"})}
    )
    assert run_id(other, "data") != run_id(STUDENT, "data")


def test_family_is_what_a_sweep_holds_fixed():
    swept = {"objective": "standard", "alpha": None, "multipliers": None, "seed": 7}
    assert family_id(TEACHER.model_copy(update=swept), "data") == family_id(TEACHER, "data")
    longer = TEACHER.model_copy(update={"recipe": Recipe(epochs=4)})
    assert family_id(longer, "data") != family_id(TEACHER, "data")
    on_longer = STUDENT.model_copy(
        update={"teacher": STUDENT.teacher.model_copy(update={"family": family_id(longer, "data")})}
    )
    assert family_id(on_longer, "data") != family_id(STUDENT, "data")


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": None},
        {"alpha": 1.5},
        {"alpha": float("nan")},
        {"objective": "standard"},
        {"objective": "unknown"},
        {"multipliers": None},
        {"temperature": 1.0},
        {"stage": "student"},
        {"seed": -1},
        {"recipe": {"epochs": 0}},
        {"recipe": {"epochs": 1, "milestones": (0.5, 0.2)}},
        {"recipe": {"epochs": 1, "milestones": (1.5,)}},
        {"recipe": {"epochs": 1, "momentum": 0}},
        {"recipe": {"epochs": 1, "learning_rate": float("inf")}},
        {"multipliers": {"averaged_iterates": 4}},
        {"data": {"imbalance": 0.5}},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_nonsense_is_refused(changes):
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate(TEACHER.model_dump() | changes)


def test_specs_are_values():
    with pytest.raises(ValidationError):
        TEACHER.seed = 1
    assert len({TEACHER, TEACHER.model_copy(deep=True)}) == 1
    assert TrainingSpec.model_validate_json(TEACHER.model_dump_json()) == TEACHER
    assert DataOptions() == DataOptions(imbalance=None)
