"""Measure the selection with predictions in simulations in which all students see the same images.

    python benchmarks/selection/paired.py [--quick]

The worlds are those of ``truth.py`` with 10 classes of 500 images, in which an image is hard or
easy for all students: its difficulty makes up 0.9 of the variance on the probit scale, so that the
correctness of two students on an image is correlated about 0.7. In ``alike`` worlds the rest is
independent. In ``grouped`` worlds, half of the rest is common to the students of one teacher or of
one objective, and a part to the seeds of a combination.

Each world is selected with predictions and by counts alone. The rows have the coverage of the 90 %
intervals of gains over standard distillation, their width and the regret of the choice over those
by counts, the stated regret over the true one, and what choosing the highest average within a
tolerance changes, in points of worst-class and average accuracy. It takes about ten minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit, ndtri

from benchmarks.report import print_row, quick, spread
from benchmarks.selection.truth import KINDS, combinations, effects, held, places

if TYPE_CHECKING:
    from analysis.runs.combinations import Combinations

CLASSES, IMAGES, SHARED, WORLDS = 10, 500, 0.9, 3
REGIMES = [(seeds, noise) for seeds, noise in ((1, 0.0), (1, 0.15), (3, 0.15))]
TOLERANCES = (("0.25", 0.0025, 0.0), ("0.5", 0.005, 0.0), ("1", 0.01, 0.0), ("60 %", 0.0, 0.6))
"""Names of the rules, expected differences, and probabilities of being worse."""


@dataclass(frozen=True)
class Result:
    """Figures of one world by one kind of estimate; accuracies are fractions."""

    covered: float
    gain_covered: float
    width: float
    regret: float
    stated: float
    changes: tuple[tuple[float, float], ...]
    """True worst-class and average accuracy gained by the rules of ``TOLERANCES``."""


def world(
    rng: np.random.Generator, kind: str, seeds: int, noise: float, grouped: bool
) -> tuple[Combinations, np.ndarray, np.ndarray]:
    """Return combinations with outcomes, and their true worst-class and average accuracies."""
    from analysis.runs.outcomes import Outcomes

    level = logit(0.88) + 0.6 * rng.standard_normal(CLASSES)
    eta = level + effects(rng, kind, level)
    own = rng.standard_normal((len(eta), seeds, CLASSES))
    common = rng.standard_normal((1, seeds, CLASSES))
    recall = expit(eta[:, None] + noise * (0.9 * own + 0.45 * common))
    runs = len(eta) * seeds
    bits = np.empty((runs, CLASSES, IMAGES), np.uint8)
    for k in range(CLASSES):
        rest = 1 - SHARED
        hard = np.sqrt(SHARED) * rng.standard_normal(IMAGES)
        if grouped:
            for axis in (0, 1):
                place = np.unique(places()[:, axis], return_inverse=True)[1]
                of_group = rng.standard_normal((place.max() + 1, IMAGES))
                hard = hard + np.sqrt(rest / 4) * of_group[place]
            hard = hard + np.sqrt(rest / 5) * rng.standard_normal((len(eta), IMAGES))
            hard, rest = np.repeat(hard, seeds, axis=0), 0.3 * rest
        margin = ndtri(recall[..., k]).reshape(-1, 1) - hard
        bits[:, k] = np.sqrt(rest) * rng.standard_normal((runs, IMAGES)) < margin
    counts = bits.sum(axis=2, dtype=np.int64).reshape(len(eta), seeds, CLASSES)
    given = combinations(list(counts), IMAGES)
    rows = np.arange(runs)
    outcomes = Outcomes(bits.reshape(runs, -1), np.full(CLASSES, IMAGES), rows, 0 * rows)
    given = replace(given, run_id=pa.array(map(str, rows), pa.string()), outcomes=outcomes)
    if seeds == 1:
        return given, recall[:, 0].min(axis=1), recall[:, 0].mean(axis=1)
    further = noise * np.hypot(0.9, 0.45) * rng.standard_normal((400, CLASSES))
    students = [expit(eta + one) for one in further]
    worst, average = (
        np.mean([getattr(p, name)(axis=1) for p in students], axis=0) for name in ("min", "mean")
    )
    return given, worst, average


def judge(given: Combinations, worst: np.ndarray, average: np.ndarray) -> Result:
    """Select, and compare with the truth."""
    from analysis.selection.uncertainty import decide

    selection, sure, _ = decide(given)
    assert sure is not None
    chosen, reference = selection.selected, selection.reference
    kept = average >= average[reference] - selection.margin
    best = np.where(kept, worst, -1).max()
    gains = worst - worst[reference]
    others = np.arange(len(gains)) != reference
    changes = []
    for _, difference, probability in TOLERANCES:
        expected = sure.expected.worst_k
        near = expected >= expected[chosen] - difference
        near |= sure.probability_lower < probability
        among = np.flatnonzero(near & selection.admitted)
        place = among[sure.expected.average[among].argmax()]
        changes.append(
            (float(worst[place] - worst[chosen]), float(average[place] - average[chosen]))
        )
    return Result(
        covered=float(held(worst, sure.worst_k_interval).mean()),
        gain_covered=float(held(gains, sure.worst_k_gain)[others].mean()),
        width=float(np.diff(sure.worst_k_gain, axis=0)[0, others].mean()),
        regret=max(float(best - worst[chosen]), 0.0),
        stated=sure.expected_regret,
        changes=tuple(changes),
    )


def figures(paired: Sequence[Result], counted: Sequence[Result]) -> dict[str, Any]:
    """Return the figures of one regime; accuracies in points."""
    found: dict[str, Any] = {"worlds": len(paired)}
    for name in ("covered", "gain_covered", "width", "regret", "stated"):
        for label, results in (("paired", paired), ("counts", counted)):
            value = float(np.mean([getattr(result, name) for result in results]))
            points = name in ("width", "regret", "stated")
            found[f"{name} {label}"] = round(100 * value if points else value, 3)
    changes = 100 * np.mean([result.changes for result in paired], axis=0)
    for (name, *_), (worst, average) in zip(TOLERANCES, changes, strict=True):
        found[f"tolerance {name}"] = [round(float(worst), 3), round(float(average), 3)]
    return found


def main() -> None:
    """Evaluate all worlds, and print the rows."""
    small = quick()
    each: dict[str, Any] = {}
    for grouped in (False, True):
        for seeds, noise in REGIMES[:1] if small else REGIMES:
            results = []
            for place, kind in enumerate(KINDS):
                for repetition in range(1 if small else WORLDS):
                    key = [2505, repetition, place, seeds, int(1000 * noise), grouped]
                    given, *truth = world(np.random.default_rng(key), kind, seeds, noise, grouped)
                    alone = replace(given, outcomes=None)
                    results.append([judge(one, *truth) for one in (given, alone)])
            paired, counted = zip(*results, strict=True)
            name = f"{'grouped' if grouped else 'alike'}, {seeds} seeds, noise {noise:g}"
            each[name] = figures(paired, counted)
            print(name, each[name], file=sys.stderr, flush=True)
    total = {"repetitions": sum(row["worlds"] for row in each.values())}

    def ratios(name: str, over: str = "paired", under: str = "counts") -> list[float]:
        return [row[f"{name} {over}"] / row[f"{name} {under}"] for row in each.values()]

    covered = [row["gain_covered paired"] for row in each.values()]
    print_row("paired_coverage_of_gains", spread(covered), "0.88 to 0.92", total | each)
    print_row("paired_width_of_gains", spread(ratios("width")), "<= 0.7", total)
    print_row("paired_regret", spread(ratios("regret")), "<= 0.8", total)
    stated = [row["stated paired"] / max(row["regret paired"], 1e-3) for row in each.values()]
    print_row("paired_stated_regret", spread(stated), "0.8 to 1.2", total)


if __name__ == "__main__":
    main()
