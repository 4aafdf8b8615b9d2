"""An interrupted training continues and has the record and weights of an uninterrupted one."""

import itertools
import shutil

import pytest
import torch

from rkd_core.errors import DivergedError, StoppedError, UserError
from rkd_core.results import checkpoints
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import Augmentation, DataOptions, MultiplierOptions, Recipe, run_id
from rkd_core.storage import bundles
from rkd_core.training import saving, train
from rkd_core.training.run import Run
from tests.rkd_core.training.arrays.test_arrays import apart_from_company
from tests.rkd_core.training.test_loop import CPU, colourful, student_spec, teacher_spec

RECIPE = Recipe(epochs=6, batch_size=32, learning_rate=0.05, warmup=0.2, crop_padding=1, flip=True)
STEPS = 3  # of an epoch: 96 images
ASCENT = MultiplierOptions(step_size=0.5, period=2, batch=20, averaged_iterates=3)


class Cut(Exception):  # noqa: N818
    """A power failure."""


def cut_after(epoch, seen):
    def report(progress):
        seen.append(progress.epoch)
        if progress.epoch == epoch:
            raise Cut

    return report


ADAMW = RECIPE.model_copy(
    update={
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "schedule": "one_cycle",
        "ema_decay": 0.8,
    }
)

AUGMENTED = RECIPE.model_copy(
    update={"augmentation": Augmentation.parse("trivial_augment,random_erasing=0.5,mixup,cutmix")}
)


@pytest.fixture(name="world")
def world_with_a_teacher(tmp_path):
    data = colourful()
    teacher = teacher_spec(architecture="resnet8", recipe=RECIPE, data=DataOptions())
    for out in ("whole", "cut"):
        train([teacher], data=data, out=tmp_path / out, execution=CPU)

    def student(**changes):
        fields = {"recipe": RECIPE, "data": DataOptions(), "architecture": "resnet8"}
        return student_spec(teacher, data.fingerprint, **(fields | changes))

    return data, student, tmp_path


@pytest.mark.parametrize("every", [1, 2])
def test_interrupted_trainings_end_like_uninterrupted_ones(world, every):
    data, student, folder = world
    spec = student(objective="tradeoff", alpha=0.7, multipliers=ASCENT)
    (whole,) = train([spec], data=data, out=folder / "whole", execution=CPU)
    out, seen = folder / "cut", []
    options = {"data": data, "out": out, "execution": CPU, "checkpoint_every": every}
    for epoch in (3, 5):
        with pytest.raises(Cut):
            train([spec], report=cut_after(epoch, seen), **options)
    (row,) = train([spec], report=cut_after(None, seen), **options)
    # The epoch whose end was never saved is done again, and no other.
    assert seen == [1, 2, 3, 3, 4, 5, 5, 6]
    assert apart_from_company(row) == apart_from_company(whole)
    weights = [
        (folder / name / "artifacts" / row["run_id"] / "weights.safetensors").read_bytes()
        for name in ("whole", "cut")
    ]
    assert weights[0] == weights[1]
    assert not list((out / "checkpoints").glob("*"))
    assert row["train_seconds"] > 0


def test_an_array_goes_on_together_and_apart(world):
    data, student, folder = world
    specs = [student(), student(objective="robust", multipliers=ASCENT)]
    whole = train(specs, data=data, out=folder / "whole", execution=CPU)
    out = folder / "cut"
    options = {"data": data, "out": out, "execution": CPU, "checkpoint_every": 1}
    with pytest.raises(Cut):
        train(specs, report=cut_after(3, []), **options)
    # One of them loses its newest checkpoint, so they are no longer side by side.
    lost = run_id(specs[1], data.fingerprint)
    shutil.rmtree(out / "checkpoints" / lost)
    rows = train(specs, **options)
    assert [r["trained_together"] for r in rows] == [1, 1]
    for row, other in zip(rows, whole, strict=True):
        assert apart_from_company(row) == apart_from_company(other)


def test_a_damaged_checkpoint_counts_as_none(world):
    data, student, folder = world
    spec, out = student(), folder / "cut"
    (whole,) = train([spec], data=data, out=folder / "whole", execution=CPU)
    options = {"data": data, "out": out, "execution": CPU, "checkpoint_every": 1}
    with pytest.raises(Cut):
        train([spec], report=cut_after(4, []), **options)
    (path,) = (out / "checkpoints").glob("*/step-*/state.safetensors")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    seen = []
    (row,) = train([spec], report=cut_after(None, seen), **options)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert apart_from_company(row) == apart_from_company(whole)


def test_a_checkpoint_in_the_place_of_a_damaged_one_is_kept(world):
    data, student, folder = world
    spec, out = student(), folder / "cut"
    options = {"data": data, "out": out, "execution": CPU, "checkpoint_every": 3}
    for _ in range(2):
        with pytest.raises(Cut):
            train([spec], report=cut_after(4, []), **options)
        (path,) = (out / "checkpoints").glob("*/step-*/state.safetensors")
        if _ == 0:
            path.write_bytes(path.read_bytes()[:-1])
    seen = []
    train([spec], report=cut_after(None, seen), **options)
    assert seen == [4, 5, 6]


def test_a_diverged_training_leaves_no_checkpoint(world, monkeypatch):
    data, student, folder = world
    end = Run.end_epoch

    def broken(self, epoch, losses):
        end(self, epoch, losses * float("nan") if epoch == 3 else losses)

    monkeypatch.setattr(Run, "end_epoch", broken)
    options = {"data": data, "out": folder / "cut", "execution": CPU, "checkpoint_every": 1}
    with pytest.raises(DivergedError):
        train([student()], **options)
    assert not list((folder / "cut" / "checkpoints").glob("*"))


def test_by_default_a_minute_passes_between_checkpoints(world, monkeypatch):
    data, student, folder = world
    out, saved = folder / "cut", []
    monkeypatch.setattr(Checkpoints, "save", lambda self, steps, state: saved.append(steps))
    train([student()], data=data, out=out, execution=CPU)
    assert saved == []
    monkeypatch.setattr(saving, "_SECONDS", 0.0)
    monkeypatch.setattr(saving, "_SHARE", float("inf"))
    train([student(temperature=3.0)], data=data, out=out, execution=CPU)
    assert saved == list(range(1, 6 * STEPS))  # in an epoch too; the last ends in the record


def test_checkpoints_that_take_long_are_rare(world, monkeypatch):
    data, student, folder = world
    saved, now = [], [0.0]
    monkeypatch.setattr(saving.time, "perf_counter", lambda: now[0])

    def save(self, steps, state):
        saved.append((steps, now[0]))
        now[0] += 3.0

    def stop():
        now[0] += 30.0  # a step
        return False

    monkeypatch.setattr(Checkpoints, "save", save)
    train([student()], data=data, out=folder / "cut", execution=CPU, stop=stop)
    times = [time for _, time in saved]
    assert times[0] == 60.0
    assert min(b - a for a, b in itertools.pairwise(times)) >= 3.0 / 0.02


@pytest.mark.parametrize(
    ("recipe", "step"),
    [(RECIPE, step) for step in (1, STEPS - 1, STEPS, 2 * STEPS + 1, 6 * STEPS - 1)]
    + [(ADAMW, 1), (ADAMW, 2 * STEPS + 1), (AUGMENTED, 2 * STEPS + 1)],
)
def test_a_stopped_training_continues_from_the_same_step(world, recipe, step):
    data, student, folder = world
    averaged = None if recipe.ema_decay else 3
    multipliers = ASCENT.model_copy(update={"averaged_iterates": averaged})
    specs = [
        student(objective="tradeoff", alpha=0.7, multipliers=multipliers, recipe=recipe),
        student(temperature=3.0, recipe=recipe),
    ]
    whole = train(specs, data=data, out=folder / "whole", execution=CPU)
    out, steps, seen = folder / "cut", itertools.count(), []
    options = {"data": data, "out": out, "execution": CPU}
    with pytest.raises(StoppedError, match=f"after {step} steps"):
        train(specs, stop=lambda: next(steps) == step, **options)
    rows = train(specs, report=cut_after(None, seen), **options)
    assert seen[0] == step // STEPS + 1  # what it goes on with, not what was done
    for row, other in zip(rows, whole, strict=True):
        assert apart_from_company(row) == apart_from_company(other)
        weights = [
            (folder / name / "artifacts" / row["run_id"] / "weights.safetensors").read_bytes()
            for name in ("whole", "cut")
        ]
        assert weights[0] == weights[1]


def test_a_training_stopped_before_its_first_step_leaves_nothing(world):
    data, student, folder = world
    with pytest.raises(StoppedError):
        train([student()], data=data, out=folder / "cut", execution=CPU, stop=lambda: True)
    assert not (folder / "cut" / "checkpoints").exists()


def test_a_full_disk_costs_a_checkpoint_and_no_training(world, monkeypatch):
    data, student, folder = world
    write = checkpoints.bundles.write

    def full(path, run_id, files):
        if "checkpoints" in str(path):
            raise OSError(28, "No space left on device")
        return write(path, run_id, files)

    monkeypatch.setattr(checkpoints.bundles, "write", full)
    options = {"out": folder / "cut", "execution": CPU, "checkpoint_every": 1}
    (row,) = train([student()], data=data, **options)
    assert row["status"] == "completed"


def test_names_that_are_no_steps_are_left_alone(tmp_path):
    saved = Checkpoints(tmp_path, "run")
    saved.save(2, {"weight": torch.ones(2)})
    (tmp_path / "checkpoints" / "run" / "step-²").mkdir()
    assert saved.newest() == 2


def test_an_invalid_state_is_refused_by_name(tmp_path):
    path = tmp_path / "checkpoints" / "run" / "step-2"
    bundles.write(path, "run", {"state.safetensors": b"no state"})
    with pytest.raises(UserError, match=r"state\.safetensors is of another version"):
        Checkpoints(tmp_path, "run").load(2)
