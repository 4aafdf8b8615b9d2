import json
import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError

from rkd_core import methods, records
from rkd_core.specs import (
    GIVEN_LOGITS,
    DataOptions,
    Derivation,
    MultiplierOptions,
    Recipe,
    TeacherRef,
    TrainingSpec,
    Tuned,
    array_key,
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
    monkeypatch.setattr("rkd_core.specs.identity.MATH_VERSION", 10**6)
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
        "classes": None,
        "class_seed": 0,
        "imbalance": None,
        "profile": "exponential",
        "limit_train": None,
        "subset_seed": 0,
        "image_size": None,
        "split_seed": 0,
        "stratified": False,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
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
        "gradient_clip": None,
        "label_smoothing": 0,
        "crop_padding": 0,
        "crop_fill": 0.0,
        "flip": False,
        "normalization": "per_channel",
        "optimizer": "sgd",
        "augmentation": {
            "random_resized_crop": None,
            "randaugment": None,
            "trivial_augment": False,
            "color_jitter": None,
            "random_erasing": None,
            "mixup": None,
            "cutmix": None,
        },
        "ema_decay": None,
        "betas": [0.9, 0.999],
        "epsilon": 1e-8,
        "decay_norms_and_biases": None,
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
        "variant",
        "initial_weights",
        "derived",
        "tuned",
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
        "variant": None,
        "initial_weights": None,
        "derived": None,
        "tuned": None,
    }


def tuned(**changes):
    """Return a student with its own learning rate and step size."""
    fields = dict(STUDENT) | {
        "objective": "tradeoff",
        "alpha": 0.5,
        "recipe": Recipe(epochs=3, learning_rate=0.02),
        "multipliers": MultiplierOptions(step_size=0.3),
        "tuned": Tuned(learning_rate=0.1, multiplier_step_size=0.1),
    }
    return TrainingSpec(**fields | changes)


def test_tuned_students_belong_to_the_family_of_the_sweep_and_have_their_own_ids():
    spec = tuned()
    assert family_id(spec, "data") == family_id(STUDENT, "data")
    plain = tuned(recipe=Recipe(epochs=3), multipliers=MultiplierOptions(), tuned=None)
    assert run_id(spec, "data") != run_id(plain, "data")
    assert spec.tuning == "learning_rate 0.02, multiplier_step_size 0.3"
    assert plain.tuning is None
    assert records.identity(spec, "id", "data")["tuned"] == spec.tuning
    other = tuned(tuned=Tuned(learning_rate=0.4))
    assert family_id(other, "data") != family_id(spec, "data")  # of a sweep at another rate


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"tuned": Tuned()}, "says of nothing"),
        (
            {"objective": "standard", "alpha": None, "multipliers": None},
            "no step size to tune",
        ),
        ({"stage": "teacher", "teacher": None, "temperature": None}, "a student of the grid"),
    ],
)
def test_options_that_cannot_be_tuned_are_refused(changes, line):
    with pytest.raises(ValidationError, match=line):
        tuned(**changes)


def test_no_epochs_are_those_of_a_standard_teacher_with_initial_weights():
    plain = {"objective": "standard", "alpha": None, "multipliers": None}
    fields = json.loads(TEACHER.model_dump_json()) | {"initial_weights": "a" * 64}
    assert TrainingSpec.model_validate(fields).initial_weights == "a" * 64
    untrained = fields | {"recipe": {"epochs": 0}}
    student = json.loads(STUDENT.model_dump_json()) | {"initial_weights": "a" * 64}
    assert TrainingSpec.model_validate(untrained | plain).recipe.epochs == 0
    for wrong in (
        untrained,
        untrained | plain | {"initial_weights": None},
        fields | {"initial_weights": "w.pth"},
        student | {"recipe": {"epochs": 0}},
    ):
        with pytest.raises(ValidationError):
            TrainingSpec.model_validate(wrong)
    assert TrainingSpec.model_validate(student).initial_weights == "a" * 64


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
        {"data": {"classes": 1}},
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


@pytest.mark.parametrize("change", [{"seed": 2**63}, {"recipe": {"epochs": 2**63}}])
def test_numbers_that_no_record_could_hold(change):
    with pytest.raises(ValidationError):
        TrainingSpec.model_validate(TEACHER.model_dump() | change)


def variant(method, teacher=STUDENT.teacher, **options):
    temperature = getattr(methods.create(method, options), "temperature", None)
    fields = {"variant": {"method": method, "options": options}, "temperature": temperature}
    return TrainingSpec.model_validate(STUDENT.model_dump() | fields | {"teacher": teacher})


def test_a_variant_names_only_differences_from_its_method():
    spelt_out = variant("dkd", others_weight=8, temperature=4, target_weight=2)
    assert spelt_out == variant("dkd", target_weight=2.0)
    assert spelt_out.variant.options == {"target_weight": 2.0}
    assert run_id(spelt_out, "data") == run_id(variant("dkd", target_weight=2), "data")
    assert run_id(spelt_out, "data") != run_id(variant("dkd"), "data")
    assert TrainingSpec.model_validate_json(spelt_out.model_dump_json()) == spelt_out
    assert len({variant("kd"), variant("kd").model_copy(deep=True), spelt_out}) == 2


def without_teacher(alpha):
    """A student trained on labels alone with a trade-off objective."""
    multipliers = MultiplierOptions(val_labels="true") if alpha else None
    spec = variant("one_hot", None).model_copy(
        update={"objective": "tradeoff", "alpha": alpha, "multipliers": multipliers}
    )
    return TrainingSpec(**dict(spec))


def test_a_student_without_a_teacher_may_have_any_objective():
    ids = {alpha: run_id(without_teacher(alpha), "data") for alpha in (0.0, 0.5, 1.0)}
    assert len({*ids.values(), run_id(variant("one_hot", None), "data")}) == 4
    families = {family_id(without_teacher(alpha), "data") for alpha in ids}
    assert families == {family_id(variant("one_hot", None), "data")}
    assert array_key(without_teacher(0.5)) == array_key(variant("one_hot", None))
    with pytest.raises(ValidationError, match="multipliers belong to trainings that update them"):
        TrainingSpec(**dict(without_teacher(0.5)) | {"multipliers": None})
    row = records.identity(without_teacher(0.5), ids[0.5], "data")
    assert (row["method"], row["variant"], row["teacher_id"]) == ("one_hot", "one_hot", None)
    assert (row["student_objective"], row["alpha_s"]) == ("tradeoff", 0.5)


def test_the_family_without_a_teacher_is_found_from_a_student():
    family = family_id(without_teacher(0.5), "data")
    tuned = TrainingSpec(
        **dict(STUDENT)
        | {"recipe": Recipe(epochs=3, learning_rate=0.3), "tuned": Tuned(learning_rate=0.1)}
    )
    for student in (STUDENT, tuned):
        assert records.family_without_teacher(student.model_dump_json(), "data") == family
    older = json.loads(STUDENT.model_dump_json())
    del older["recipe"]["label_smoothing"]  # a field that was added later
    assert records.family_without_teacher(json.dumps(older), "data") == family
    longer = STUDENT.model_copy(update={"recipe": Recipe(epochs=4)})
    assert records.family_without_teacher(longer.model_dump_json(), "data") != family
    assert records.family_without_teacher("no spec", "data") is None


def test_run_ids_of_variants_do_not_drift():
    assert run_id(variant("one_hot", None), "data") == "330944919b72f8431ebb"
    assert run_id(without_teacher(0.5), "data") == "b9e557c0674bb8c8f58b"
    assert run_id(variant("dkd", target_weight=2), "data") == "b314a2e9085f75be3d2f"
    assert run_id(variant("group_dro", None), "data") == "497dced7f026b7dae040"


def test_variants_differ_from_the_grid_in_what_is_swept():
    assert family_id(variant("kd"), "data") == family_id(STUDENT, "data")
    chained = STUDENT.teacher.model_copy(update={"run_id": run_id(STUDENT, "data")})
    second = variant("repeated_distillation", chained, rounds=2)
    assert family_id(second, "data") == family_id(STUDENT, "data")
    alone = [family_id(variant(name, None), "data") for name in ("one_hot", "group_dro")]
    assert alone[0] == alone[1] != family_id(STUDENT, "data")


def test_other_batches_are_another_array():
    assert array_key(variant("kd")) == array_key(STUDENT)
    assert array_key(variant("review_kd")) != array_key(STUDENT)
    alone = variant("one_hot", None)
    assert array_key(variant("group_dro", None)) != array_key(alone)
    assert array_key(variant("group_dro", None, reweight_groups=False)) == array_key(alone)


def test_records_name_the_method_and_no_objective():
    spec = variant("kd")
    row = records.identity(spec, run_id(spec, "data"), "data")
    assert (row["method"], row["temperature"]) == ("kd", 4)
    assert (row["student_objective"], row["alpha_s"]) == (None, None)
    assert (row["teacher_objective"], row["alpha_t"]) == ("tradeoff", 0.5)
    alone = variant("one_hot", None)
    row = records.identity(alone, run_id(alone, "data"), "data")
    assert [row[n] for n in ("teacher_id", "teacher_objective", "temperature")] == [None] * 3


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("dkdd", {}, "did you mean dkd"),
        ("dkd", {"options": {"beta": 1}}, "unknown option of dkd 'beta'"),
        ("dkd", {"options": {"others_weight": -1}}, "dkd.others_weight"),
        ("kd", {"temperature": 3}, "the temperature is that of kd's options"),
        ("kd", {"teacher": None}, "kd has a teacher"),
        ("one_hot", {"temperature": None}, "one_hot has no teacher"),
        ("kd", {"objective": "balanced"}, "the objective of kd is standard"),
        ("balanced_student", {"temperature": 1}, "balanced_student is a cell of the grid"),
        ("standard", {"temperature": 1}, "standard is a cell of the grid"),
    ],
)
def test_invalid_variants_are_refused(method, changes, message):
    fields = {"temperature": 4} | changes
    fields["variant"] = {"method": method, "options": fields.pop("options", {})}
    with pytest.raises(ValidationError, match=message):
        TrainingSpec.model_validate(STUDENT.model_dump() | fields)


def test_a_teacher_is_no_variant():
    fields = {"objective": "standard", "alpha": None, "multipliers": None}
    with pytest.raises(ValidationError, match="a variant is a student"):
        TrainingSpec.model_validate(
            TEACHER.model_dump() | fields | {"variant": {"method": "one_hot"}}
        )


def test_networks_from_outside_the_registry_have_a_digest():
    fields = json.loads(TEACHER.model_dump_json())
    given = fields | {"architecture": "nets:Tiny", "network_digest": "a" * 64}
    assert TrainingSpec.model_validate(given).network_digest == "a" * 64
    for wrong in ({"network_digest": "a" * 64}, {"architecture": "nets:Tiny"}):
        with pytest.raises(ValidationError, match=r"rkd_core\.models\.identify"):
            TrainingSpec.model_validate(fields | wrong)


GIVEN = TrainingSpec(
    stage="teacher",
    dataset="digits",
    architecture=GIVEN_LOGITS,
    objective="standard",
    recipe=Recipe(epochs=0),
    given_logits="0" * 64,
)


def derivation(by):
    ref = STUDENT.teacher.model_copy(
        update={"architecture": GIVEN_LOGITS, "objective": "standard", "alpha": None}
    )
    return {"objective": "tradeoff", "alpha": 0.5, "derived": Derivation(by=by, source=ref)}


def test_given_logits_enter_the_digest():
    other = GIVEN.model_copy(update={"given_logits": "1" * 64})
    assert run_id(GIVEN, "data") != run_id(other, "data")
    assert family_id(GIVEN, "data") != family_id(other, "data")
    assert array_key(GIVEN) != array_key(other)
    assert GIVEN.epochs == 0
    shifted = TrainingSpec(**dict(GIVEN) | derivation("shifted"))
    assert (shifted.method, shifted.epochs) == ("shifted_teacher", 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "digits_cnn"},
        {"given_logits": None},
        {"given_logits": "logits"},
        {"recipe": Recipe(epochs=1)},
        {"initial_weights": "0" * 64},
        {"objective": "tradeoff", "alpha": 0.0},
        {"stage": "student", "temperature": 1, "teacher": STUDENT.teacher},
        derivation("head") | {"multipliers": MultiplierOptions()},
        derivation("warm") | {"multipliers": MultiplierOptions()},
    ],
)
def test_given_logits_are_those_of_an_untrained_teacher(changes):
    with pytest.raises(ValidationError):
        TrainingSpec(**dict(GIVEN) | changes)
