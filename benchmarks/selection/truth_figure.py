"""Draw docs/selection.png from simulations of ``truth.py``.

    python benchmarks/selection/truth_figure.py

It takes about a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.report import ROOT
from benchmarks.selection.truth import SHAPES, Cell, judge, world

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY, BLUE, RED = "#9a9a9a", "#1f5fa8", "#b3372f"
WORLDS = (12, 6, 4, 2)
"""Worlds of each shape."""


def draw(shapes: Sequence[tuple[int, int]], numbers: Sequence[int]) -> Figure:
    """Simulate, and return the figure.

    Args:
        shapes: Classes and images of each, one pair for each group of worlds.
        numbers: Number of worlds in each group.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from analysis.selection import select
    from analysis.selection.uncertainty import decide

    given, _, worst, *_ = world(np.random.default_rng(7), Cell("smooth", 10, 500, 1, 0.0))
    raw = select(given)
    chosen, sure, _ = decide(given)
    assert sure is not None
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.2, 4.3), width_ratios=(1.25, 1), constrained_layout=True
    )
    low, high = 100 * sure.worst_k_interval
    left.vlines(100 * worst, low, high, color=BLUE, alpha=0.25, linewidth=1.2)
    left.scatter(
        100 * worst, 100 * raw.means.worst_k, s=16, color=GREY, label="as counted", zorder=2
    )
    left.scatter(
        100 * worst,
        100 * sure.expected.worst_k,
        s=14,
        color=BLUE,
        label="estimated, with 90 % interval",
        zorder=3,
    )
    ends = np.array([worst.min(), worst.max()]) * 100 + [-1, 1]
    left.plot(ends, ends, color="#333333", linewidth=0.8, zorder=1)
    for place, score, color, name in (
        (raw.selected, raw.means.worst_k, RED, "largest as counted"),
        (chosen.selected, sure.expected.worst_k, BLUE, "selected"),
    ):
        left.scatter(
            100 * worst[place],
            100 * score[place],
            s=110,
            facecolor="none",
            edgecolor=color,
            linewidth=1.8,
            label=name,
            zorder=4,
        )
    left.set_xlabel("true worst-class accuracy, %")
    left.set_ylabel("what validation says, %")
    left.set_title("One world: 108 combinations, 10 classes of 500 images", fontsize=10)
    left.legend(fontsize=8, frameon=False)

    for x, (shape, worlds) in enumerate(zip(shapes, numbers, strict=True)):
        rng = np.random.default_rng(x)
        results = [judge(rng, Cell("smooth", *shape, 1, 0.0)) for _ in range(worlds)]
        for shift, color, name in ((-0.15, RED, "raw_bias"), (0.15, BLUE, "corrected_bias")):
            values = 100 * np.array([getattr(result, name) for result in results])
            spread = np.linspace(-0.07, 0.07, worlds)
            right.scatter(x + shift + spread, values, s=12, color=color, alpha=0.55)
            right.hlines(values.mean(), x + shift - 0.12, x + shift + 0.12, color=color, lw=2.5)
    right.axhline(0, color="#333333", linewidth=0.8)
    right.set_xticks(range(len(shapes)), [f"{c:,} classes\nof {n}" for c, n in shapes])
    right.set_ylabel("score of the selected less its truth, points")
    right.set_title("Many worlds: as counted (red), corrected (blue)", fontsize=10)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Write the file."""
    draw(SHAPES, WORLDS).savefig(ROOT / "docs" / "selection.png", dpi=110)


if __name__ == "__main__":
    main()
