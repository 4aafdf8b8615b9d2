"""Compare the cost of a step of each method's student with a step of the standard student.

    python benchmarks/training/method_cost.py [--quick]

Measured are all methods that use only the logits of a network. The specs are those of a sweep's
plan: each method's student with default options, and the grid's students of the standard teacher.
A step is a batch, the teacher's logits from the table, forward, loss, backward and update, as in
``rkd_core.training.train``. Updates of multipliers, which happen between steps, are not included,
because they depend on the size of validation.

The networks are so small that they cannot hide the cost of a loss: a ResNet-8 on random color
images of 32 x 32 pixels in bfloat16, and the digits' network on random images of 8 x 8 in float32,
with batches of 128 on one core. A pair is some steps of the standard student and as many of the
method's, in one process, and the first side alternates. CPU seconds are measured, so that other
load on the machine lengthens neither. The row is the largest of all methods' median ratios, with
the range of that method's pairs. The standard student is also compared with itself, as a control.

It takes about 2 minutes.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.report import fresh, one_core, print_row, quick, spread

if TYPE_CHECKING:
    from rkd_core.datasets import Dataset
    from rkd_core.specs import TrainingSpec
    from sweeps.planning.plan import Plan

GOAL = "<= 1.15"
NETWORKS = {"resnet8": (32, 5), "digits_cnn": (8, 60)}
"""Pixels per side, and steps of each student in a pair."""

Milliseconds = dict[str, list[tuple[float, float]]]
"""Pairs by student name: CPU milliseconds of a standard step and of the student's own."""


def measure(pairs: int, small: bool) -> dict[str, Milliseconds]:
    """Return the samples of all students of each network, alternating with the standard one."""
    one_core()
    return {name: _measure(name, pairs, small) for name in NETWORKS}


def _measure(network: str, pairs: int, small: bool) -> Milliseconds:
    from benchmarks.sweep.synthetic_plan import plan
    from benchmarks.training.workload import BATCH, OURS, made_images, recipe
    from rkd_core import methods
    from rkd_core.models.features import needs_activations
    from rkd_core.training import train

    side, steps = NETWORKS[network]
    dataset = made_images(side, 4 * BATCH)
    every = [methods.create(name) for name in methods.descriptions()]
    named = tuple(m.name for m in every if m.trains and not needs_activations(m.needs))
    runs = plan(
        3,
        1,
        1,
        architecture=network,
        recipe=recipe(epochs=1),
        methods=named,
        fingerprint=dataset.fingerprint,
    )
    with tempfile.TemporaryDirectory(prefix="rkd-method-cost-") as name:
        out = Path(name)
        needed = {above for run in runs.runs for above in run.depends_on}
        above = [run.spec for run in runs.runs if run.run_id in needed]
        train(above, data=dataset, out=out, execution=OURS)
        chosen = _students(runs)
        standard = _Student(next(iter(chosen.values())), dataset, out)
        students = {label: _Student(spec, dataset, out) for label, spec in chosen.items()}
    for student in (standard, *students.values()):
        student.step(2)  # warm up
    samples: Milliseconds = {label: [] for label in students}
    for pair in range(pairs):
        for label, student in students.items():
            sides = {"standard": standard, "own": student}
            spent = {
                side: sides[side].step(1 if small else steps)
                for side in sorted(sides, reverse=pair % 2 == 0)
            }
            samples[label].append((spent["standard"], spent["own"]))
    return samples


def _students(runs: Plan) -> dict[str, TrainingSpec]:
    """Return the specs of the measured students by name, the standard student first."""
    return {
        run.label.removeprefix("student ").removesuffix(", seed 0"): run.spec
        for run in runs.students
        if (run.spec.teacher is None or run.spec.teacher.objective == "standard")
        and (run.spec.variant is None or not run.spec.variant.options)
    }


class _Student:
    """A student in training."""

    def __init__(self, spec: TrainingSpec, dataset: Dataset, out: Path) -> None:
        from benchmarks.training.workload import OURS
        from rkd_core.datasets.array_data import ArrayData
        from rkd_core.teachers.answers import Teacher
        from rkd_core.teachers.holdouts import Holdouts
        from rkd_core.training.run import Run
        from rkd_core.training.steps import EagerSteps

        array_data = ArrayData(spec, dataset, OURS.prepared(dataset.image_size))
        self._teacher = None if spec.teacher is None else Teacher(spec.teacher, array_data, out)
        held_out = Holdouts(array_data, self._teacher, out).of(spec)
        self._steps = EagerSteps([Run(spec, "", array_data, self._teacher, held_out=held_out)])
        # Repeat the one epoch in the teacher's table.
        self._batches = itertools.chain.from_iterable(
            array_data.batches.epoch(0) for _ in itertools.count()
        )

    def step(self, steps: int) -> float:
        """Return the mean CPU milliseconds of ``steps`` steps."""
        began = time.process_time()
        for batch in itertools.islice(self._batches, steps):
            answers = None if self._teacher is None else self._teacher.logits(batch)
            self._steps(batch, answers, 0.01)
        return 1000 * (time.process_time() - began) / steps


def main() -> None:
    """Measure in a process of its own, and print the row."""
    small = quick()
    pairs = 2 if small else 9
    measured = fresh(measure, pairs, small)
    ratios = {
        (network, label): spread([own / standard for standard, own in sample])
        for network, samples in measured.items()
        for label, sample in samples.items()
    }
    worst = max(ratios, key=lambda which: ratios[which]["median"])
    details = {
        "repetitions": pairs,
        "largest": f"{worst[1]} ({worst[0]})",
        "milliseconds_of_a_standard_step": {
            network: spread([standard for sample in samples.values() for standard, _ in sample])
            for network, samples in measured.items()
        },
        "ratios": {
            network: {label: ratios[network, label] for label in samples}
            for network, samples in measured.items()
        },
    }
    print_row("method_cost", ratios[worst], GOAL, details)


if __name__ == "__main__":
    main()
