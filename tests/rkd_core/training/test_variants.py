"""Methods in the trainer: in arrays, interrupted, recorded, and without access to test data."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rkd_core import methods, models
from rkd_core.datasets import ImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import TrainingBatches
from rkd_core.errors import StoppedError
from rkd_core.methods.common.losses import Loss
from rkd_core.methods.common.protocol import Method, needed
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.seeds import stream_seed
from rkd_core.specs import DataOptions, HoldoutRule, Recipe, TrainingSpec, Variant
from rkd_core.teachers.answers import Teacher
from rkd_core.training import train
from rkd_core.training.optimizer import learning_rate
from rkd_core.training.run import Run
from rkd_core.training.steps import EagerSteps, RecordedSteps
from tests.rkd_core.training.arrays.test_arrays import Replay, apart_from_company
from tests.rkd_core.training.test_loop import (
    CPU,
    RECIPE,
    colourful,
    result,
    student_spec,
    teacher_spec,
)

INSIDE = ("review_kd", "cat_kd")
RULE = HoldoutRule()
ON_LOGITS = ("kd", "dkd", "dist", "ltkd", "weighted_soft_labels")


class Projected(Method):
    """Squared distance of trained projections: a loss with weights and a counter of its own."""

    name = "projected"

    def loss(self, context):
        torch.manual_seed(context.seed)
        trained = nn.Linear(context.classes, 3)
        steps = torch.zeros(())

        def loss(inputs):
            steps.add_(1)
            distance = F.mse_loss(trained(inputs.logits), trained(inputs.teacher))
            rising = needed(inputs.epoch, "the epoch") * steps
            return F.cross_entropy(inputs.logits, inputs.labels) + 0.01 * rising * distance

        return Loss(loss, trained, steps=steps)


@pytest.fixture(name="projected")
def method_that_trains_something_beside_the_student(monkeypatch):
    monkeypatch.setitem(methods._methods(), "projected", Projected)


def variant_spec(teacher, fingerprint, method, options=None, **changes):
    """A student; ``teacher`` is a spec, or None."""
    built = methods.create(method, options)
    fields = {
        "variant": Variant(method=method, options=options or {}),
        "temperature": getattr(built, "temperature", None),
    }
    if teacher is None:
        return teacher_spec(stage="student", **(fields | changes))
    return student_spec(teacher, fingerprint, **(fields | changes))


def weights(out, row):
    return (out / "artifacts" / row["run_id"] / "weights.safetensors").read_bytes()


def test_an_array_of_variants_gives_the_records_of_single_runs(digits, tmp_path):
    teacher = teacher_spec()
    specs = [variant_spec(teacher, digits.fingerprint, name) for name in ON_LOGITS]
    specs.append(variant_spec(teacher, digits.fingerprint, "standard", {"one_hot_weight": 0.8}))
    specs.append(student_spec(teacher, digits.fingerprint))  # of the grid
    together, apart = tmp_path / "together", tmp_path / "apart"
    for out in (together, apart):
        train([teacher], data=digits, out=out, execution=CPU)
    array = train(specs, data=digits, out=together, execution=CPU)
    singles = [train([s], data=digits, out=apart, execution=CPU)[0] for s in specs]
    assert [r["trained_together"] for r in array] == [len(specs)] * len(specs)
    assert [r["method"] for r in array] == [*ON_LOGITS, "standard", "standard"]
    for one, other in zip(array, singles, strict=True):
        assert apart_from_company(one) == apart_from_company(other)  # on a CPU to the last bit
        assert weights(together, one) == weights(apart, other)
    assert len({weights(together, row) for row in array}) == len(specs)


def test_methods_without_a_teacher_are_trained_without_a_folder(digits):
    specs = [variant_spec(None, "", name) for name in ("one_hot", "group_dro")]
    rows = train(specs, data=digits, execution=CPU)
    assert [r["trained_together"] for r in rows] == [1, 1]  # other batches
    assert [r["teacher_pass"] for r in rows] == [None, None]
    assert all(r["val_average_accuracy"] > 0.2 for r in rows)


OBJECTIVES = ({}, {"objective": "tradeoff", "alpha": 0.0}, {"objective": "tradeoff", "alpha": 0.5})
"""Fields of students without a teacher."""


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_students_without_a_teacher_are_trained_like_teachers(digits, monkeypatch, smoothing):
    def same_streams(*parts):
        return stream_seed(
            *("either" if part in ("teacher", "student") else part for part in parts)
        )

    for module in ("rkd_core.training.run", "rkd_core.datasets.array_data"):
        monkeypatch.setattr(f"{module}.stream_seed", same_streams)
    recipe = RECIPE.model_copy(update={"label_smoothing": smoothing})
    for fields in OBJECTIVES:
        specs = [
            teacher_spec(recipe=recipe, **fields),
            variant_spec(None, "", "one_hot", recipe=recipe, **fields),
        ]
        taught, alone = train(specs, data=digits, execution=CPU)
        assert alone["train_loss"] == pytest.approx(taught["train_loss"], rel=1e-5)
        assert alone["val_class_correct"] == taught["val_class_correct"]
        if taught["multipliers"] is None:
            assert alone["multipliers"] is None
        else:
            assert alone["multipliers"] == pytest.approx(taught["multipliers"], rel=1e-3)


def test_students_without_a_teacher_are_trained_side_by_side_and_continued(digits, tmp_path):
    specs = [variant_spec(None, "", "one_hot", **fields) for fields in OBJECTIVES]
    whole, cut = ({"data": digits, "out": tmp_path / n, "execution": CPU} for n in ("whole", "cut"))
    steps = itertools.count()
    with pytest.raises(StoppedError, match="after 5 steps"):
        train(specs, stop=lambda: next(steps) == 5, **cut)
    array = train(specs, **cut)
    assert [row["trained_together"] for row in array] == [3, 3, 3]
    assert [(row["method"], row["student_objective"], row["alpha_s"]) for row in array] == [
        ("one_hot", None, None),
        ("one_hot", "tradeoff", 0.0),
        ("one_hot", "tradeoff", 0.5),
    ]
    assert [row["multipliers"] is None for row in array] == [True, True, False]
    for spec, row in zip(specs, array, strict=True):
        (single,) = train([spec], **whole)
        assert apart_from_company(single) == apart_from_company(row)
        assert weights(tmp_path / "whole", single) == weights(tmp_path / "cut", row)
    assert len({weights(tmp_path / "cut", row) for row in array}) == 3


@pytest.mark.parametrize("name", ["one_hot", "kd"])
def test_weights_equal_those_of_a_loop_written_by_hand(digits, tmp_path, name):
    teacher = teacher_spec()
    spec = variant_spec(teacher if name == "kd" else None, digits.fingerprint, name)
    rows = train([teacher, spec], data=digits, out=tmp_path, execution=CPU)
    model = models.build("digits_cnn", 10, 1, (8, 8), seed=stream_seed("weights", "student", 0))
    taught = models.build("digits_cnn", 10, 1, (8, 8), seed=0)
    taught.load_state_dict(artifacts.load(tmp_path / "artifacts", rows[0]["run_id"]).weights)
    model.train()
    taught.eval()
    batches = TrainingBatches(digits.train, RECIPE, seed=stream_seed("data", "student", 0))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    steps = itertools.count()
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(RECIPE, next(steps), 3 * len(batches))
            optimizer.zero_grad()
            f = model(batch.images)
            loss = F.cross_entropy(f, batch.labels)
            if name == "kd":
                with torch.no_grad():
                    p = F.softmax(taught(batch.images) / 4, dim=1)
                divergence = (p * (p.log() - F.log_softmax(f / 4, dim=1))).sum(dim=1).mean()
                loss = 0.1 * loss + 0.9 * 16 * divergence
            loss.backward()
            optimizer.step()
    trained = artifacts.load(tmp_path / "artifacts", rows[1]["run_id"]).weights
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=1e-3, atol=1e-4)


def test_a_student_can_teach(digits, tmp_path):
    """Two rounds of distillation: the record is that of the standard student of a student."""
    teacher = teacher_spec()
    first = student_spec(teacher, digits.fingerprint, temperature=1.0)
    second = variant_spec(first, digits.fingerprint, "repeated_distillation", {"rounds": 2})
    plain = student_spec(first, digits.fingerprint, temperature=1.0)
    rows = train([teacher, first, second, plain], data=digits, out=tmp_path, execution=CPU)
    assert rows[2]["teacher_id"] == rows[1]["run_id"]
    assert result(rows[2]) == result(rows[3]) != result(rows[1])
    assert rows[2]["method"] == "repeated_distillation"


@pytest.mark.parametrize("step", [1, 4, 7])
def test_an_interrupted_training_continues_from_the_same_step(tmp_path, projected, step):
    data = colourful()
    recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.05, crop_padding=1, flip=True)
    fields = {"architecture": "resnet8", "recipe": recipe, "data": DataOptions()}
    teacher = teacher_spec(**fields)
    groups = [
        [variant_spec(teacher, data.fingerprint, m, **fields) for m in ("projected", "dkd")],
        [variant_spec(teacher, data.fingerprint, m, {"weight": 0.1}, **fields) for m in INSIDE],
        [variant_spec(None, "", "group_dro", {"step_size": 0.5}, **fields)],
    ]
    for specs, out in itertools.product(groups, ("whole", "cut")):
        options = {"data": data, "out": tmp_path / out, "execution": CPU}
        train([teacher], **options)
        if out == "cut":
            steps = itertools.count()
            with pytest.raises(StoppedError, match=f"after {step} steps"):
                train(specs, stop=lambda steps=steps: next(steps) == step, **options)
        train(specs, **options)
    for spec in itertools.chain(*groups):
        rows = [
            train([spec], data=data, out=tmp_path / out, execution=CPU)[0]
            for out in ("whole", "cut")
        ]
        assert apart_from_company(rows[0]) == apart_from_company(rows[1])
        assert weights(tmp_path / "whole", rows[0]) == weights(tmp_path / "cut", rows[1])


def test_recorded_steps_are_plain_steps(tmp_path, projected):
    """Warming up leaves no trace in a loss's state and weights, and the epoch is read anew."""
    data = colourful()
    recipe = Recipe(epochs=3, batch_size=32, learning_rate=0.02)
    fields = {"architecture": "resnet8", "recipe": recipe, "data": DataOptions()}
    teacher = teacher_spec(**fields)
    train([teacher], data=data, out=tmp_path, execution=CPU)
    specs = [
        variant_spec(teacher, data.fingerprint, "projected", **fields),
        variant_spec(teacher, data.fingerprint, "dkd", {"warmup": 1.0}, **fields),
        *(
            variant_spec(teacher, data.fingerprint, name, {"weight": 0.1}, **fields)
            for name in INSIDE
        ),
        variant_spec(None, "", "group_dro", {"step_size": 1.0, "reweight_groups": False}, **fields),
    ]
    array_data = ArrayData(specs[0], data, CPU)
    live_teacher = Teacher(specs[0].teacher, array_data, tmp_path)
    rate = torch.tensor(0.0)
    plain = [Run(spec, "plain", array_data, live_teacher) for spec in specs]
    recorded = [Run(spec, "recorded", array_data, live_teacher, rate) for spec in specs]
    both = EagerSteps(plain), RecordedSteps(recorded, rate, 32, Replay())
    for epoch in range(recipe.epochs):
        for run in (*plain, *recorded):
            run.begin_epoch(epoch)
        for batch in array_data.batches.epoch(epoch):
            losses = [steps(batch, live_teacher.logits(batch), 0.02).clone() for steps in both]
            torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)
    for one, other in zip(plain, recorded, strict=True):
        torch.testing.assert_close(one.changing(), other.changing(), rtol=1e-3, atol=1e-4)
    assert float(recorded[0].loss.steps) == recipe.epochs * len(array_data.batches)


@pytest.mark.parametrize("name", INSIDE)
def test_features_and_maps_are_those_of_both_networks_on_the_same_view(tmp_path, monkeypatch, name):
    """Compare the inputs of the loss in the trainer with both networks run separately."""
    data = colourful()
    recipe = Recipe(epochs=1, batch_size=32, learning_rate=0.05, crop_padding=1, flip=True)
    other = recipe.model_copy(update={"normalization": "centered"})
    teacher = teacher_spec(architecture="resnet8", recipe=other, data=DataOptions())
    fields = {"architecture": "resnet8", "recipe": recipe, "data": DataOptions()}
    spec = variant_spec(teacher, data.fingerprint, name, **fields)
    train([teacher], data=data, out=tmp_path, execution=CPU)
    array_data = ArrayData(spec, data, CPU)
    run = Run(spec, "run", array_data, Teacher(spec.teacher, array_data, tmp_path))
    batch, given = next(iter(array_data.batches.epoch(0))), []
    loss = run.loss._function
    monkeypatch.setattr(run.loss, "_function", lambda inputs: given.append(inputs) or loss(inputs))
    student = copy.deepcopy(run.model)
    seed = stream_seed("weights", "student", 0)
    drawn = models.build("resnet8", 3, 3, (12, 12), seed=seed, class_maps=name == "cat_kd")
    assert torch.equal(student.classifier.weight, drawn.classifier.weight)
    run.step(batch.images, batch.labels, None)
    (inputs,) = given
    mean, std = array_data.statistics
    pixels = batch.images * std.float()[:, None, None] + mean.float()[:, None, None]
    artifact = artifacts.load(tmp_path / "artifacts", spec.teacher.run_id)
    own = student.activations(batch.images)
    taught = rebuild(artifact).activations(pixels - 0.5)
    pairs = [(own.logits, inputs.logits)]
    if name == "review_kd":
        for found, features in (
            (own, inputs.student_features),
            (taught, inputs.teacher_features),
        ):
            pairs += zip([s.before for s in found.stages], features.before, strict=True)
            pairs += zip([s.output for s in found.stages], features.outputs, strict=True)
            pairs.append((found.pooled, features.pooled))
    else:
        assert not run.model.classifier.bias.any()
        pairs.append((inputs.logits, inputs.student_maps.mean(dim=(2, 3))))
        weights = artifact.weights["classifier.weight"]
        maps = torch.einsum("bchw,kc->bkhw", taught.last, weights)
        pairs.append((maps, inputs.teacher_maps))
        assert not inputs.teacher_maps.requires_grad
    for expected, found in pairs:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_networks_may_differ_and_the_record_names_live_teacher_logits(digits, tmp_path):
    teacher = teacher_spec(architecture="resnet8")
    specs = [variant_spec(teacher, digits.fingerprint, name) for name in INSIDE]
    rows = train([teacher, *specs], data=digits, out=tmp_path, execution=CPU)
    assert [row["teacher_pass"] for row in rows] == [None, "live", "live"]
    assert [row["trained_together"] for row in rows] == [1, 2, 2]
    parameters = sum(p.numel() for p in models.outline("digits_cnn", 10, 1, (8, 8)).parameters())
    assert [row["parameters"] for row in rows[1:]] == [parameters] * 2  # the fusion is dropped
    bias = artifacts.load(tmp_path / "artifacts", rows[2]["run_id"]).weights["classifier.bias"]
    assert not bias.any()


def test_a_loss_receives_the_epoch_after_a_resume(digits, tmp_path, monkeypatch):
    seen = []

    class Watching(Projected):
        name = "watching"

        def loss(self, context):
            def loss(inputs):
                seen.append(int(inputs.epoch))
                return F.cross_entropy(inputs.logits, inputs.labels)

            return Loss(loss)

    monkeypatch.setitem(methods._methods(), "watching", Watching)
    teacher = teacher_spec()
    spec = variant_spec(teacher, digits.fingerprint, "watching")
    train([teacher], data=digits, out=tmp_path, execution=CPU)
    count, steps = len(digits.train) // RECIPE.batch_size, itertools.count()
    with pytest.raises(StoppedError):
        train([spec], data=digits, out=tmp_path, execution=CPU, stop=lambda: next(steps) == count)
    train([spec], data=digits, out=tmp_path, execution=CPU)
    assert seen == [epoch for epoch in (1, 2, 3) for _ in range(count)]


def test_group_dro_never_sees_validation(digits, tmp_path):
    noise = np.random.default_rng(0)
    other = ImageSet(
        noise.integers(0, 256, digits.val.images.shape, dtype=np.uint8),
        noise.permutation(digits.val.labels),
    )
    spec = variant_spec(None, "", "group_dro")
    rows = [
        train([spec], data=data, out=tmp_path / name, execution=CPU)[0]
        for name, data in (("own", digits), ("noise", dataclasses.replace(digits, val=other)))
    ]
    assert rows[0]["val_class_correct"] != rows[1]["val_class_correct"]
    assert weights(tmp_path / "own", rows[0]) == weights(tmp_path / "noise", rows[1])


def test_no_method_sees_test_and_only_these_see_validation(digits, tmp_path):
    """Train all methods with noise in both sets: unused data change no weight."""
    noise = np.random.default_rng(0)

    def noisy(images):
        pixels = noise.integers(0, 256, images.images.shape, dtype=np.uint8)
        return ImageSet(pixels, noise.permutation(images.labels))

    other = dataclasses.replace(digits, val=noisy(digits.val), test=noisy(digits.test))
    recipe = RECIPE.model_copy(update={"epochs": 1})
    teacher, initial = teacher_spec(recipe=recipe), teacher_spec(recipe=recipe, held_out=RULE)
    mark = digits.fingerprint
    judged = student_spec(initial, mark).teacher
    by_validation = [("ada_alpha", {"holdout": "validation"}), ("post_shift", {})]
    cases = [(name, {}) for name in methods.descriptions() if methods.create(name).cell is None]
    cases.append(by_validation[0])
    specs = []
    for name, options in cases:
        needs = methods.create(name, options).needs
        changes = {"initial": judged} if isinstance(needs.holdout, HoldoutRule) else {}
        above = None if needs.teacher is None else teacher
        specs.append(variant_spec(above, mark, name, options, recipe=recipe, **changes))
    cases = [("teacher", {}), ("initial", {}), *cases]
    rows = [
        train([teacher, initial, *specs], data=data, out=tmp_path / place, execution=CPU)
        for place, data in (("own", digits), ("noise", other))
    ]
    differ = [
        case
        for case, own, noisy_one in zip(cases, *rows, strict=True)
        if weights(tmp_path / "own", own) != weights(tmp_path / "noise", noisy_one)
    ]
    assert sorted(differ) == by_validation


def test_the_artifact_of_a_variant_holds_its_spec(digits, tmp_path):
    spec = variant_spec(None, "", "one_hot")
    (row,) = train([spec], data=digits, out=tmp_path, execution=CPU)
    assert artifacts.load(tmp_path / "artifacts", row["run_id"]).spec == spec
    assert TrainingSpec.model_validate_json(row["spec"]) == spec
