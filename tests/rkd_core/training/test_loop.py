import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rkd_core import models, records
from rkd_core.datasets import Dataset, ImageSet
from rkd_core.datasets.batches.batches import (
    EvaluationBatches,
    TrainingBatches,
    normalization_statistics,
)
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError, UserError
from rkd_core.models.inference import logits_of
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.seeds import stream_seed
from rkd_core.specs import (
    DataOptions,
    MultiplierOptions,
    Recipe,
    TeacherRef,
    TrainingSpec,
    family_id,
    run_id,
)
from rkd_core.training import train
from rkd_core.training.optimizer import learning_rate

RECIPE = Recipe(epochs=3, batch_size=64, learning_rate=0.05, warmup=0.2)
DATA = DataOptions(imbalance=20)
PLACE = ("train_seconds", "started_at", "host")
CPU = Execution("cpu")


def teacher_spec(**changes):
    fields = {
        "stage": "teacher",
        "dataset": "digits",
        "data": DATA,
        "architecture": "digits_cnn",
        "objective": "standard",
        "recipe": RECIPE,
    }
    wanted = fields | changes
    if wanted["objective"] == "robust" or wanted.get("alpha"):
        fields["multipliers"] = MultiplierOptions(step_size=0.5, period=2, batch=None)
    return TrainingSpec(**(fields | changes))


def student_spec(teacher, fingerprint, **changes):
    ref = TeacherRef(
        run_id=run_id(teacher, fingerprint),
        family=family_id(teacher, fingerprint),
        architecture=teacher.architecture,
        objective=teacher.objective,
        alpha=teacher.alpha,
    )
    return teacher_spec(**({"stage": "student", "teacher": ref, "temperature": 2.0} | changes))


def timeless(row):
    return {k: v for k, v in row.items() if k not in PLACE}


def result(row):
    """The measured columns, without those that name the training."""
    names = [
        n for n in row if n.startswith(("val_", "test_")) or n in ("train_loss", "multipliers")
    ]
    return {n: row[n] for n in names}


def one(spec, **options):
    (row,) = train([spec], execution=CPU, **options)
    return row


def test_training_is_a_pure_function_of_the_spec(digits):
    spec = teacher_spec(objective="tradeoff", alpha=0.5)
    first = one(spec, data=digits)
    torch.manual_seed(123)
    np.random.seed(5)
    state = torch.random.get_rng_state()
    assert timeless(one(spec, data=digits)) == timeless(first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert result(one(spec.model_copy(update={"seed": 1}), data=digits)) != result(first)


def test_weights_equal_those_of_a_loop_written_by_hand(digits, tmp_path):
    """Logit adjustment (Menon et al. 2021): cross-entropy of logits + log prior."""
    spec = teacher_spec(objective="balanced")
    row = one(spec, data=digits, out=tmp_path)
    model = models.build("digits_cnn", 10, 1, (8, 8), seed=stream_seed("weights", "teacher", 0))
    model.train()
    batches = TrainingBatches(digits.train, RECIPE, seed=stream_seed("data", "teacher", 0))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )
    counts = np.bincount(digits.train.labels)
    log_prior = torch.log(torch.tensor(counts / counts.sum(), dtype=torch.float32))
    step, steps = 0, 3 * (len(digits.train) // 64)
    for epoch in range(3):
        for batch in batches.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(RECIPE, step, steps)
            optimizer.zero_grad()
            F.cross_entropy(model(batch.images) + log_prior, batch.labels).backward()
            optimizer.step()
            step += 1
    assert step == steps
    trained = artifacts.load(tmp_path / "artifacts", row["run_id"]).weights
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("alpha", "name"), [(0.0, "balanced"), (1.0, "robust")])
def test_the_ends_of_the_trade_off_are_balanced_and_robust(digits, tmp_path, alpha, name):
    traded, named = (
        one(teacher_spec(objective="tradeoff", alpha=alpha), data=digits, out=tmp_path),
        one(teacher_spec(objective=name), data=digits, out=tmp_path),
    )
    for split in ("val", "test"):
        assert traded[f"{split}_class_correct"] == named[f"{split}_class_correct"]
    assert traded["train_loss"] == pytest.approx(named["train_loss"], rel=1e-6)


def test_a_finished_run_is_found_not_redone(digits, tmp_path):
    spec = teacher_spec()
    first = one(spec, data=digits, out=tmp_path)
    again = one(spec, data=digits, out=tmp_path, report=lambda _: pytest.fail("trained again"))
    assert timeless(again) == timeless(first)
    assert again["train_seconds"] == first["train_seconds"]


def test_records_are_complete_and_honest(digits, tmp_path):
    teacher = teacher_spec(objective="tradeoff", alpha=0.25)
    fingerprint = digits.fingerprint
    student = student_spec(teacher, fingerprint, objective="tradeoff", alpha=0.75)
    rows = train([teacher, student], data=digits, out=tmp_path, execution=CPU)
    stored = {r["run_id"]: r for r in records.read(tmp_path / "records").to_pylist()}
    for row in rows:
        kept = stored[row["run_id"]]
        assert {k: kept[k] for k in row} == row
        assert TrainingSpec.model_validate_json(kept["spec"]) in (teacher, student)
        for split in ("val", "test"):
            total, correct = kept[f"{split}_class_total"], kept[f"{split}_class_correct"]
            labels = getattr(digits, split).labels
            assert total == np.bincount(labels, minlength=10).tolist()
            assert kept[f"{split}_average_accuracy"] == sum(correct) / sum(total)
            worst = min(c / n for c, n in zip(correct, total, strict=True))
            assert kept[f"{split}_worst_class_accuracy"] == worst
        assert kept["train_class_total"] == digits.class_counts("train").tolist()
        assert sum(kept["multipliers"]) == pytest.approx(1)
        # The weights that were committed are the weights that were measured.
        model = rebuild(artifacts.load(tmp_path / "artifacts", row["run_id"]))
        statistics = normalization_statistics(digits.train, RECIPE)
        test = EvaluationBatches(digits.test, RECIPE, batch_size=512, statistics=statistics)
        right = logits_of(model, test, CPU).argmax(1).numpy() == digits.test.labels
        assert (
            np.bincount(digits.test.labels[right], minlength=10).tolist()
            == (kept["test_class_correct"])
        )
    first, second = (stored[row["run_id"]] for row in rows)
    assert (first["alpha_t"], first["alpha_s"], first["temperature"]) == (0.25, None, None)
    assert (second["alpha_t"], second["alpha_s"], second["temperature"]) == (0.25, 0.75, 2.0)
    assert (first["teacher_id"], second["teacher_id"]) == (None, first["run_id"])
    assert (first["teacher_objective"], first["student_objective"]) == ("tradeoff", None)
    assert (second["teacher_objective"], second["student_objective"]) == ("tradeoff", "tradeoff")


def test_the_test_set_touches_nothing_but_its_own_columns(digits, tmp_path):
    spec = teacher_spec(objective="robust")
    noise = np.random.RandomState(0).randint(0, 256, digits.test.images.shape).astype(np.uint8)
    garbled = dataclasses.replace(digits, test=ImageSet(noise, digits.test.labels[::-1].copy()))
    rows = [one(spec, data=data, out=tmp_path / n) for n, data in (("a", digits), ("b", garbled))]
    assert {k: v for k, v in timeless(rows[0]).items() if not k.startswith("test_")} == {
        k: v for k, v in timeless(rows[1]).items() if not k.startswith("test_")
    }
    weights = [artifacts.load(tmp_path / n / "artifacts", rows[0]["run_id"]).weights for n in "ab"]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_averaged_iterates_are_the_mean_of_their_logits(digits, tmp_path):
    options = MultiplierOptions(step_size=0.5, period=None, batch=None, averaged_iterates=3)
    averaged = one(teacher_spec(objective="robust", multipliers=options), data=digits, out=tmp_path)
    model = rebuild(artifacts.load(tmp_path / "artifacts", averaged["run_id"]))
    assert len(model.iterates) == 3
    images = torch.randn(5, 1, 8, 8)
    parts = [network(images) for network in model.iterates]
    assert not torch.allclose(parts[0], parts[2])
    torch.testing.assert_close(model(images), sum(parts) / 3)
    # The last of the iterates is the model that is trained without averaging.
    last = options.model_copy(update={"averaged_iterates": None})
    single = one(teacher_spec(objective="robust", multipliers=last), data=digits, out=tmp_path)
    weights = artifacts.load(tmp_path / "artifacts", single["run_id"]).weights
    for name, value in model.iterates[2].state_dict().items():
        assert torch.equal(value, weights[name])
    # A student can be taught by it.
    teacher = teacher_spec(objective="robust", multipliers=options)
    one(student_spec(teacher, digits.fingerprint), data=digits, out=tmp_path)


def test_val_labels_change_a_robust_student(digits, tmp_path):
    teacher = teacher_spec()
    one(teacher, data=digits, out=tmp_path)
    rows = []
    for labels in ("teacher", "true"):
        options = MultiplierOptions(step_size=1.0, period=1, batch=None, val_labels=labels)
        spec = student_spec(teacher, digits.fingerprint, objective="robust", multipliers=options)
        rows.append(one(spec, data=digits, out=tmp_path))
    assert rows[0]["multipliers"] != rows[1]["multipliers"]


def test_progress_is_reported_every_epoch_and_validated_now_and_then(digits):
    seen = []
    row = one(
        teacher_spec(recipe=RECIPE.model_copy(update={"epochs": 60})),
        data=digits,
        report=seen.append,
    )
    assert [p.epoch for p in seen] == list(range(1, 61))
    validated = [p.epoch for p in seen if p.val_average_accuracy is not None]
    # A validation image costs a third of a trained one, and all of them may cost 2 %.
    affordable = int(0.06 * 60 * len(digits.train) / len(digits.val))
    assert 1 <= affordable == len(validated)
    assert len(set(np.diff([0, *validated, 60]).tolist())) <= 2  # evenly spread
    assert seen[-1].train_loss == row["train_loss"]
    assert seen[-1].train_loss < seen[0].train_loss


def test_validation_figures_are_those_of_the_model_at_the_time(digits):
    """A training that learns nothing is the same model at every epoch."""
    still = RECIPE.model_copy(update={"epochs": 60, "learning_rate": 1e-30, "weight_decay": 0.0})
    seen = []
    row = one(teacher_spec(recipe=still), data=digits, report=seen.append)
    figures = {(p.val_average_accuracy, p.val_worst_class_accuracy) for p in seen}
    assert figures == {
        (None, None),
        (row["val_average_accuracy"], row["val_worst_class_accuracy"]),
    }


def test_a_loss_that_is_not_finite_says_where(digits, tmp_path):
    wild = RECIPE.model_copy(update={"learning_rate": 1e30, "warmup": 0.0})
    with pytest.raises(DivergedError, match=r"epoch 0, step \d"):
        one(teacher_spec(recipe=wild), data=digits, out=tmp_path)
    assert not (tmp_path / "records").exists()
    assert not (tmp_path / "artifacts").exists()


def test_a_model_that_the_last_step_broke_is_not_committed(digits, tmp_path):
    wild = Recipe(epochs=1, batch_size=10**6, learning_rate=1e38, warmup=0.0)
    with pytest.raises(DivergedError, match="logits are not finite"):
        one(teacher_spec(recipe=wild), data=digits, out=tmp_path)
    assert not (tmp_path / "artifacts").exists()


def test_a_spec_that_misnames_its_teacher_is_refused(digits, tmp_path):
    teacher = teacher_spec()
    one(teacher, data=digits, out=tmp_path)
    spec = student_spec(teacher, digits.fingerprint)
    wrong = spec.teacher.model_copy(update={"objective": "tradeoff", "alpha": 0.7})
    with pytest.raises(UserError, match="teacher's objective is tradeoff"):
        one(spec.model_copy(update={"teacher": wrong}), data=digits, out=tmp_path)


def test_threads_are_set_by_the_execution_whatever_was_before(digits):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        train([teacher_spec()], data=digits, execution=Execution("cpu", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_student_without_its_teacher_says_so(digits, tmp_path):
    spec = student_spec(teacher_spec(), digits.fingerprint)
    with pytest.raises(UserError, match="out"):
        one(spec, data=digits)
    with pytest.raises(UserError, match=spec.teacher.run_id):
        one(spec, data=digits, out=tmp_path)


def test_bfloat16_is_a_way_to_run_not_another_training(digits):
    spec = teacher_spec(objective="balanced")
    half = train([spec], data=digits, execution=Execution("cpu", "bfloat16"))[0]
    full = one(spec, data=digits)
    assert half["run_id"] == full["run_id"]
    assert (half["precision"], full["precision"]) == ("bfloat16", "float32")
    assert half["train_loss"] != full["train_loss"]
    assert half["train_loss"] == pytest.approx(full["train_loss"], rel=0.1)


def test_specs_alone_are_enough_for_named_data(monkeypatch, tmp_path):
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path))
    recipe = RECIPE.model_copy(update={"epochs": 1})
    (row,) = train([teacher_spec(recipe=recipe)])
    assert row["train_class_total"][0] == 100
    with pytest.raises(UserError, match=r"imbalance=20"):
        train([teacher_spec(dataset="digits-lt", data=DataOptions(), recipe=recipe)])


def colourful(seed=0, classes=3, n=96):
    """A tiny set of 12x12 colour images, for recipes that augment."""
    random = np.random.RandomState(seed)
    labels = np.arange(n, dtype=np.int64) % classes
    images = random.randint(0, 256, (n, 12, 12, 3)).astype(np.uint8)
    half = n // 2
    rows = np.arange(n, dtype=np.int64)
    return Dataset(
        name="noise",
        class_names=tuple("abc"[:classes]),
        train=ImageSet(images, labels),
        val=ImageSet(images[:half], labels[:half]),
        test=ImageSet(images[half:], labels[half:]),
        fingerprint=f"noise{seed}",
        skipped_images=0,
        train_indices=rows,
        val_indices=rows[:half],
        test_indices=rows[half:],
    )


def test_a_student_on_augmented_colour_images(tmp_path):
    data = colourful()
    recipe = Recipe(epochs=2, batch_size=32, crop_padding=2, flip=True)
    teacher = teacher_spec(architecture="resnet8", recipe=recipe, data=DataOptions())
    student = student_spec(
        teacher, data.fingerprint, objective="tradeoff", alpha=0.5, data=DataOptions()
    )
    rows = train([teacher, student], data=data, out=tmp_path, execution=CPU)
    again = train([student], data=data, out=tmp_path, execution=CPU)
    assert timeless(again[0]) == timeless(rows[1])
