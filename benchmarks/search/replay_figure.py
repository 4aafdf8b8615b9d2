"""Draw docs/budget.png from the output of ``replay.py``.

    python benchmarks/search/replay.py > rows.jsonl
    python benchmarks/search/replay_figure.py rows.jsonl

The first command takes about eleven minutes on two cores.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.report import ROOT

COLORS = {
    "informed": ("#1f5fa8", "--budget"),
    "optuna tpe": ("#c77d1e", "--search optuna (tpe)"),
    "optuna nsga2": ("#4a8f4a", "--sampler nsga2 --objectives pareto"),
    "random": ("#8a8a8a", "a random order"),
}


def main() -> None:
    """Read the row with the curves, draw, and write the file."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/search/replay_figure.py ROWS")
    try:
        rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
        named = {row["name"]: row["details"] for row in rows}
        details = named["search_cost"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise SystemExit(f"{sys.argv[1]}: not the rows of replay.py ({cause})") from error
    draw(details, ROOT / "docs" / "budget.png")


def draw(details: dict[str, Any], path: Path) -> None:
    """Draw a row per grid: distance to its choice, and area of accuracies, against cost."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    shares = 100 * np.array(details["shares"])
    names = [name for name, told in details.items() if isinstance(told, dict)]
    figure, panels = plt.subplots(
        len(names), 2, figsize=(9.6, 3.5 * len(names)), squeeze=False, constrained_layout=True
    )
    for (left, right), name in zip(panels, names, strict=True):
        for strategy, (color, label) in COLORS.items():
            told = details[name].get(strategy)
            if told is None:
                continue
            gap = np.array(told["points_to_the_grid"])
            error = np.array(told["points_standard_error"])
            style = {"color": color, "linewidth": 2.0 if strategy == "informed" else 1.4}
            left.plot(shares, gap, label=label, **style)
            left.fill_between(shares, gap - error, gap + error, color=color, alpha=0.15, lw=0)
            right.plot(shares, told["hypervolume"], label=label, **style)
        left.axhline(0, color="#333333", linewidth=0.8)
        left.axhspan(-0.5, 0.5, color="#333333", alpha=0.06, linewidth=0)
        left.set_ylabel("worst-class accuracy of the choice,\npoints to the whole grid's")
        left.set_title(name, loc="left", fontsize=11, fontweight="bold")
        right.set_ylabel("area of accuracies reached,\nof the whole grid's")
        for axes in (left, right):
            axes.set_xlabel("cost, % of the whole grid's")
            axes.axvline(25, color="#333333", linewidth=0.8, linestyle=(0, (4, 3)))
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlim(shares[0], shares[-1])
        least = min(left.get_ylim()[0], -1)
        left.set_ylim(max(least, -12), None)
    panels[0, 1].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
