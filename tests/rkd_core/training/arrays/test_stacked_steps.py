"""Trainings of small networks that take their steps together."""

import numpy as np
import pytest
import torch

from rkd_core import datasets, models, records
from rkd_core.device.execution import Execution
from rkd_core.specs import MultiplierOptions, Recipe, TeacherRef, TrainingSpec
from rkd_core.training import loop, train
from rkd_core.training.stacked_steps import StackedSteps

CPU = Execution("cpu", "float32", 1)
NETS = """from torch import nn
from torch.nn import functional as F


class Head(nn.Module):
    def __init__(self, in_features, num_classes, norm="batch", dropout=0.0):
        super().__init__()
        self.hidden = nn.Linear(in_features, 12)
        self.norm = nn.BatchNorm1d(12) if norm == "batch" else nn.LayerNorm(12)
        self.out = nn.Linear(12, num_classes)
        self.dropout = dropout

    def forward(self, rows):
        hidden = F.gelu(self.norm(self.hidden(rows)))
        return self.out(F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden)


class Branching(nn.Module):
    def __init__(self, in_features, num_classes):
        super().__init__()
        self.hidden, self.out = nn.Linear(in_features, 12), nn.Linear(12, num_classes)

    def forward(self, rows):
        hidden = self.hidden(rows)
        return self.out(hidden if hidden.sum() > 0 else -hidden)
"""


@pytest.fixture(scope="module", name="data")
def rows_of_three_classes():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(3, 6))

    def part(count):
        labels = np.repeat([0, 1, 2], count)
        return centers[labels] + rng.normal(size=(len(labels), 6)), labels

    return datasets.from_data({"train": part(50), "val": part(30), "test": part(30)}, name="rows")


def recipe(**fields):
    return Recipe(
        **{"epochs": 4, "batch_size": 32, "drop_last": False, "optimizer": "sgd"} | fields
    )


def students(data, out, architecture, chosen, digest=None):
    teaching = Recipe(epochs=3, batch_size=32)
    teacher = TrainingSpec(
        stage="teacher",
        dataset="rows",
        architecture="mlp",
        recipe=teaching,
        objective="standard",
    )
    (row,) = train([teacher], data=data, out=out, execution=CPU)
    ref = TeacherRef(
        run_id=row["run_id"],
        family=row["family"],
        objective="standard",
        alpha=None,
        architecture="mlp",
    )
    updates = MultiplierOptions(period=None, batch=None)
    return [
        TrainingSpec(
            stage="student",
            dataset="rows",
            architecture=architecture,
            network_digest=digest,
            recipe=chosen,
            teacher=ref,
            temperature=temperature,
            objective="standard" if alpha is None else "tradeoff",
            alpha=alpha,
            multipliers=updates if alpha else None,
        )
        for alpha in (None, 0.0, 0.5, 1.0)
        for temperature in (1.0, 3.0)
    ]


def stacked(monkeypatch):
    """Return a list that the number of trainings in each stack is appended to."""
    sizes, init = [], StackedSteps.__init__

    def noted(self, runs):
        sizes.append(len(runs))
        init(self, runs)

    monkeypatch.setattr(StackedSteps, "__init__", noted)
    return sizes


def compare(together, alone):
    for one, other in zip(together, alone, strict=True):
        assert one["run_id"] == other["run_id"]
        assert one["trained_together"] == len(together)
        for name in ("val_class_correct", "test_class_correct"):
            assert one[name] == other[name]
        for name in ("train_loss", "multipliers", "val_class_log_loss"):
            if other[name] is not None:
                np.testing.assert_allclose(one[name], other[name], rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "adamw", "learning_rate": 0.01},
        {"gradient_clip": 0.1},
    ],
    ids=["sgd", "adamw", "clipped"],
)
@pytest.mark.parametrize("architecture", ["linear", "mlp(hidden=(8, 8), norm='layer')"])
def test_records_are_those_of_each_training_alone(
    data, tmp_path, monkeypatch, architecture, changes
):
    sizes = stacked(monkeypatch)
    specs = students(data, tmp_path / "one", architecture, recipe(**changes))
    together = train(specs, data=data, out=tmp_path / "one", execution=CPU)
    assert sizes == [len(specs)]
    students(data, tmp_path / "each", architecture, recipe(**changes))
    alone = [train([s], data=data, out=tmp_path / "each", execution=CPU)[0] for s in specs]
    compare(together, alone)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_network_of_the_user_with_normalization(data, tmp_path, monkeypatch, norm):
    (tmp_path / "nets.py").write_text(NETS)
    known = models.identify(f"{tmp_path}/nets.py:Head(norm='{norm}')", 3, 6, ())
    sizes, chosen = stacked(monkeypatch), recipe()
    specs = students(data, tmp_path / "one", known.architecture, chosen, known.digest)
    together = train(specs, data=data, out=tmp_path / "one", execution=CPU)
    assert sizes == [len(specs)]
    students(data, tmp_path / "each", known.architecture, chosen, known.digest)
    alone = [train([s], data=data, out=tmp_path / "each", execution=CPU)[0] for s in specs]
    compare(together, alone)


@pytest.mark.parametrize("name", ["Head(dropout=0.5)", "Branching"])
def test_trainings_that_cannot_be_stacked_run_one_by_one(data, tmp_path, monkeypatch, name):
    (tmp_path / "nets.py").write_text(NETS)
    known = models.identify(f"{tmp_path}/nets.py:{name}", 3, 6, ())
    sizes = stacked(monkeypatch)
    specs = students(data, tmp_path / "one", known.architecture, recipe(), known.digest)
    together = train(specs[:3], data=data, out=tmp_path / "one", execution=CPU)
    assert sizes == []
    assert [row["status"] for row in together] == ["completed"] * 3


def test_an_interrupted_stack_continues_to_the_same_bits(data, tmp_path):
    chosen = recipe(optimizer="adamw", learning_rate=0.01)
    specs = students(data, tmp_path / "cut", "mlp", chosen)
    train(specs, data=data, out=tmp_path / "cut", execution=CPU, checkpoint_every=1, until=2)
    cut = train(specs, data=data, out=tmp_path / "cut", execution=CPU)
    students(data, tmp_path / "whole", "mlp", chosen)
    whole = train(specs, data=data, out=tmp_path / "whole", execution=CPU)
    for one, other in zip(cut, whole, strict=True):
        assert one["train_loss"] == other["train_loss"]
        assert one["val_class_log_loss"] == other["val_class_log_loss"]


def test_a_training_that_diverges_leaves_the_others_as_they_are(data, tmp_path, monkeypatch):
    specs = students(data, tmp_path, "linear", recipe())
    whole = train(specs, data=data, out=tmp_path, execution=CPU)
    students(data, tmp_path / "other", "linear", recipe())
    make = loop._steps

    def spoiled(runs, rate, array_data):
        steps = make(runs, rate, array_data)
        with torch.no_grad():
            next(runs[1].model.parameters()).fill_(torch.nan)
        return steps

    monkeypatch.setattr(loop, "_steps", spoiled)
    with pytest.raises(Exception, match="the loss is nan"):
        train(specs, data=data, out=tmp_path / "other", execution=CPU)
    kept = {row["run_id"]: row for row in records.read(tmp_path / "other/records").to_pylist()}
    for spec_row in (*whole[:1], *whole[2:]):
        assert kept[spec_row["run_id"]]["train_loss"] == spec_row["train_loss"]
    assert whole[1]["run_id"] not in kept
