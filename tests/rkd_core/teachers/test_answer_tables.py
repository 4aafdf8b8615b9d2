"""Losses and gradients from the table of a teacher's answers, beside those from the live teacher.

``python -m tests.rkd_core.teachers.test_answer_tables`` prints the table of docs/performance.md.
"""

import tempfile
from itertools import chain, count, islice
from pathlib import Path

import pytest
import torch

from rkd_core import datasets, methods
from rkd_core.datasets.array_data import ArrayData
from rkd_core.methods.common.protocol import LossInputs, Needs
from rkd_core.models.features import forward, needs_activations
from rkd_core.objectives import margin_loss
from rkd_core.specs import DataOptions, HoldoutRule, Recipe
from rkd_core.teachers.answers import Teacher
from rkd_core.teachers.holdouts import Holdouts
from rkd_core.training import train
from rkd_core.training.array import begin_step
from rkd_core.training.run import Run
from tests.rkd_core.training.test_loop import CPU, DATA, student_spec, teacher_spec
from tests.rkd_core.training.test_variants import variant_spec

BOUND = 2e-5
"""Largest relative deviation of a loss, and of its gradient, at any step; see the docs."""
RECIPE = Recipe(epochs=12, batch_size=64, learning_rate=0.1, warmup=0.1, crop_padding=1)

TAUGHT = [
    name
    for name in methods.descriptions()
    if (m := methods.create(name)).trains
    and m.cell is None
    and m.needs.teacher is not None
    and not needs_activations(m.needs)  # those methods use the live teacher
]
GRID = {
    "standard, T = 1": {"temperature": 1.0},
    "standard, T = 5": {"temperature": 5.0},
    "balanced": {"temperature": 1.0, "objective": "balanced"},
    "robust": {"temperature": 1.0, "objective": "robust"},
}


class Students:
    """A folder with a teacher, and one with a hold-out, for students of every method."""

    def __init__(self, digits, out, epochs):
        self.digits, self.out = digits, out
        self.recipe = RECIPE.model_copy(update={"epochs": epochs})
        self.teacher = teacher_spec(recipe=self.recipe)
        self.initial = teacher_spec(recipe=self.recipe, held_out=HoldoutRule())
        train([self.teacher, self.initial], data=digits, out=out, execution=CPU)

    def spec(self, name):
        fields, print_ = {"recipe": self.recipe}, self.digits.fingerprint
        if name in GRID:
            return student_spec(self.teacher, print_, **fields, **GRID[name])
        if isinstance(methods.create(name).needs.holdout, HoldoutRule):
            fields["initial"] = student_spec(self.initial, print_).teacher
        return variant_spec(self.teacher, print_, name, **fields)

    def deviations(self, name, steps, rounded=None):
        """Relative deviations of loss and gradient, float64 ``(steps, 2)``, along a training.

        Args:
            name: Method, or student of the grid.
            steps: So many, each trained on the live teacher's answers.
            rounded: What the table's answers are rounded to first; None: as they are kept.
        """
        spec = self.spec(name)
        array_data = ArrayData(spec, self.digits, CPU)
        teacher = Teacher(spec.teacher, array_data, self.out)
        assert teacher.mode == "table"
        run = Run(
            spec, "", array_data, teacher, held_out=Holdouts(array_data, teacher, self.out).of(spec)
        )
        run.set_rate(0.05)
        run.begin_epoch(0)
        begin_step([run], 0, 0)
        found = []
        batches = chain.from_iterable(map(array_data.batches.epoch, count()))
        for batch in islice(batches, steps):
            with torch.no_grad():
                live = teacher._network(batch.images)
                logits = forward(run.model, batch.images, Needs()).logits
            kept = teacher.logits(batch)
            kept = kept if rounded is None else kept.to(rounded).float()
            (loss, gradient), (other, its) = (
                _loss(run, logits, batch.labels, z) for z in (live, kept)
            )
            found.append([abs(other / loss - 1), (its - gradient).norm() / gradient.norm()])
            run.step(batch.images, batch.labels, live)
        return torch.tensor(found, dtype=torch.float64)


def _loss(run, logits, labels, answers):
    """Return the loss of a student's logits, and its gradient with respect to them."""
    logits = logits.clone().requires_grad_()
    if run.loss is None:
        loss = margin_loss(logits, run.targets(labels, answers), run.costs)
    else:
        loss = run.loss(LossInputs(labels, logits, answers, epoch=run._epoch))
    return loss.item(), torch.autograd.grad(loss, logits)[0]


@pytest.fixture(name="students", scope="module")
def students_of_one_teacher(digits, tmp_path_factory):
    return Students(digits, tmp_path_factory.mktemp("answers"), epochs=9)


@pytest.mark.parametrize("name", [*GRID, *TAUGHT])
def test_the_table_and_the_live_teacher_give_one_loss_and_one_gradient(students, name):
    assert students.deviations(name, steps=8).max() <= BOUND


def test_float16_would_not(students):
    assert students.deviations("dkd", 8, torch.float16).max() > 10 * BOUND


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        data = datasets.load("digits", DataOptions(**DATA.model_dump()), cache_dir=Path(folder))
        every = Students(data, Path(folder), epochs=40)
        print("| method | loss, mean | max | gradient, mean | max | in float16: loss | gradient |")
        for label in (*GRID, *TAUGHT):
            ours = every.deviations(label, 200)
            half = every.deviations(label, 200, torch.float16).amax(0).tolist()
            columns = [*torch.stack([ours.mean(0), ours.amax(0)], 1).flatten().tolist(), *half]
            print(f"| {label} | " + " | ".join(f"{value:.1e}" for value in columns) + " |")
