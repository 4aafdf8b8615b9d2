"""Measure what shifts of trained students change on test, by the size of the validation set.

    python benchmarks/selection/shifts.py [--quick] [--data-dir DIR]

The default sweep of digits-lt is trained, and with ``--data-dir`` a small grid of CIFAR-10-LT at 16
pixels, too. The logits of each student are shifted by the fits of ``rkd_core.metrics.shift_family``
to all validation images, and to 39, 20, 10 and 5 images per class. The rows have the mean error on
test of all students with a shift over that without, of the worst class and of the average, over all
sizes and the strengths that a selection offers there. The details have the mean gain in points and
its standard error over students for each grid, size and strength, and the test accuracies of the
student that the selection ships with shifts and without.

It takes about six minutes without ``--data-dir``, and half an hour with it.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from analysis.runs.loading import load
from analysis.selection.outcome import Outcome, combination_name
from analysis.selection.rule_options import Rule
from benchmarks.report import print_row, quick_and_data_dir, spread
from rkd_core.metrics import shift_family

GOAL = "<= 1.01"
SIZES = (None, 39, 20, 10, 5)
DIGITS = ["--dataset", "digits-lt"]
CIFAR = ["--dataset", "cifar10-lt", "--image-size", "16", "--alphas", "0", "0.5", "1"]
CIFAR += ["--temperatures", "1", "--epochs", "16", "--scale", "small"]
QUICK = ["--alphas", "0.5", "--temperatures", "1", "--epochs", "4"]


def grid(command: list[str], data_dir: Path | None, small: bool) -> dict[str, Any]:
    """Train a grid in a temporary folder, and return its figures."""
    from sweeps.pareto import main as pareto

    with tempfile.TemporaryDirectory() as folder:
        found = [] if data_dir is None else ["--data-dir", str(data_dir)]
        options = [*command, *(QUICK if small else []), *found, "--serial", "--out", folder]
        with contextlib.redirect_stdout(sys.stderr):  # rows alone go to standard output
            code = pareto([*options, "--quiet"])
        if code:
            raise SystemExit(code)
        return figures(Path(folder), data_dir, SIZES[:3:2] if small else SIZES)


def figures(out: Path, data_dir: Path | None, sizes: tuple[int | None, ...]) -> dict[str, Any]:
    """Return errors and gains of the students of a results folder."""
    from rkd_core import datasets
    from rkd_core.device.execution import Execution
    from rkd_core.results import artifacts
    from rkd_core.training.shift_files import evaluated

    runs = load(out)
    run_ids = runs.students["run_id"].to_pylist()
    spec = artifacts.load(out / "artifacts", run_ids[0]).spec
    dataset = datasets.load(spec.dataset, spec.data, data_dir=data_dir)
    execution = Execution("cpu").prepared(dataset.image_size)
    logits = [evaluated(out, run_id, dataset, execution) for run_id in run_ids]
    labels, classes = dataset.val.labels, dataset.classes
    total = np.bincount(dataset.test.labels, minlength=classes)
    rng = np.random.default_rng(0)

    def on_test(scores: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        correct = shift_family.correct_counts(scores, dataset.test.labels, shifts)
        worst = (correct[:, total > 0] / total[total > 0]).min(axis=1)
        return 100 * np.array([worst, correct.sum(axis=1) / total.sum()])

    plain = np.array([on_test(test, np.zeros((1, classes))) for _, (test, _) in logits])
    gains: dict[str, dict[str, str]] = {}
    errors: list[np.ndarray] = []
    for size in sizes:
        shifted = []
        for (val, _), (test, _) in logits:
            places = [rng.permutation(np.flatnonzero(labels == k))[:size] for k in range(classes)]
            rows = np.concatenate(places)
            shifted.append(on_test(test, shift_family.fit(val[rows], labels[rows])))
        gained = np.array(shifted) - plain
        mean, error = gained.mean(axis=0), gained.std(axis=0) / np.sqrt(len(gained))
        images = len(labels) / classes if size is None else min(size, len(labels) / classes)
        offered = np.isin(shift_family.ALPHAS, shift_family.offered(images))
        errors.append(((100 - np.mean(shifted, axis=0)) / (100 - plain.mean(axis=0)))[:, offered])
        gains["all" if size is None else str(size)] = {
            f"{alpha:g}": " / ".join(f"{m:+.1f} ± {e:.1f}" for m, e in zip(*pair, strict=True))
            for alpha, *pair in zip(shift_family.ALPHAS, mean.T, error.T, strict=True)
        }
    return {
        "errors": np.concatenate(errors, axis=1),
        "students": len(run_ids),
        "plain": [round(float(value), 1) for value in plain.mean(axis=0).ravel()],
        "gains": gains,
        "shipped": {
            name: shipped(Rule(shifts=on).assess(runs))
            for name, on in (("without", False), ("with", True))
        },
    }


def shipped(outcome: Outcome) -> str:
    """Return the selected student and its test accuracies."""
    place = outcome.selection.selected
    worst, average = outcome.test.worst_k[place], outcome.test.average[place]
    name = combination_name(outcome.selection.combinations, place)
    return f"{name}: {100 * worst:.1f} / {100 * average:.1f}"


def main() -> None:
    """Train, measure, and print a row for each accuracy."""
    small, data_dir = quick_and_data_dir()
    found = {"digits-lt": grid(DIGITS, None, small)}
    if data_dir is not None:
        found["cifar10-lt"] = grid(CIFAR, data_dir, small)
    errors = np.concatenate([one.pop("errors") for one in found.values()], axis=1)
    for name, values in zip(("shift_worst_class", "shift_average"), errors, strict=True):
        details = {"repetitions": values.size, **found}
        print_row(name, spread(values.tolist()), GOAL, details)


if __name__ == "__main__":
    main()
