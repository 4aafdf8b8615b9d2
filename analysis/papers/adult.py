"""Adult tables of Lukasik et al. (TMLR 2022) with our results, printed or as plain data."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from rich.console import Console
from rich.text import Text

from analysis.papers.subgroups import FloatArray, Group, Tally, over_rows, over_seeds
from rkd_core.metrics import average_accuracy, balanced_accuracy
from rkd_core.text.console import Table
from rkd_core.text.numbers import DASH, percent, points

__all__ = ["GROUPS", "document", "print_tables", "to_csv"]

_AIE, _API = "Amer-Indian-Eskimo", "Asian-Pac-Islander"
_F, _M = "Female", "Male"

# Percent, in the paper's order: the text of Appendix C.3, Table 8 and Table 9.
BY_LABEL = {Group(0): -1.2, Group(1): 7.4}
TABLE_8 = {Group(0, _M): -2.222, Group(0, _F): 0.393, Group(1, _F): 2.373, Group(1, _M): 8.384}
TABLE_9 = {
    Group(1, _F, _AIE): -66.667,
    Group(0, _M, _API): -5.941,
    Group(0, _M, "Other"): -4.347,
    Group(1, _F, "Black"): -2.381,
    Group(0, _M, "White"): -2.248,
    Group(0, _M, "Black"): -1.639,
    Group(0, _F, "Black"): -0.140,
    Group(0, _F, _API): 0.000,
    Group(0, _F, "White"): 0.388,
    Group(0, _F, "Other"): 2.439,
    Group(1, _F, "White"): 2.724,
    Group(0, _F, _AIE): 6.349,
    Group(0, _M, _AIE): 6.493,
    Group(1, _F, _API): 7.692,
    Group(1, _M, "White"): 7.796,
    Group(1, _M, "Black"): 9.489,
    Group(1, _M, "Other"): 15.000,
    Group(1, _M, _API): 19.626,
    Group(1, _F, "Other"): 20.000,
    Group(1, _M, _AIE): 25.000,
}
BALANCED = {"teacher": 81.8, "one_hot": 76.2, "distilled": 79.3}

PAPER = {**BY_LABEL, **TABLE_8, **TABLE_9}
GROUPS = tuple(PAPER)
"""All subgroups in the order of the tallies; the two labels come first."""

_LABELS = slice(0, len(BY_LABEL))
_MODELS = {"teacher": "teacher", "one_hot": "one-hot student", "distilled": "distilled student"}


def document(tally: Tally, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return all figures as plain data, in percent and points; None for an undefined number.

    Args:
        tally: Counts ``(seeds, groups)`` of ``GROUPS``.
        seeds: Seeds of the counts.
    """
    mean, half = over_seeds(100 * tally.delta)
    low, high = (100 * end for end in over_rows(tally))
    each = 100 * tally.delta
    subgroups = [
        {
            "label": group.label,
            "sex": group.sex,
            "race": group.race,
            "rows": _number(tally.total[:, i].mean()),
            "delta": _number(mean[i]),
            "seeds_half_width": _number(half[i]),
            "rows_low": _number(low[i]),
            "rows_high": _number(high[i]),
            "paper_delta": paper,
            "per_seed": [
                {"seed": seed, "rows": int(rows), "delta": _number(delta)}
                for seed, rows, delta in zip(seeds, tally.total[:, i], each[:, i], strict=True)
            ],
        }
        for i, (group, paper) in enumerate(PAPER.items())
    ]
    models = {}
    for name, per_seed in _balanced(tally).items():
        mean, half = over_seeds(per_seed)
        models[name] = {
            "balanced_accuracy": _number(mean),
            "seeds_half_width": _number(half),
            "paper_balanced_accuracy": BALANCED.get(name),
            "average_accuracy": _number(_average(tally)[name].mean()),
            "per_seed": [_number(value) for value in per_seed],
        }
    return {"confidence": 0.95, "models": models, "subgroups": subgroups}


def to_csv(content: dict[str, Any]) -> str:
    """Return the subgroups of a document as CSV, without figures of single seeds."""
    columns = [name for name in content["subgroups"][0] if name != "per_seed"]
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(content["subgroups"])
    return sink.getvalue()


def print_tables(tally: Tally, console: Console) -> None:
    """Print the accuracies of the text, then Tables 8 and 9.

    Args:
        tally: Counts ``(seeds, groups)`` of ``GROUPS``.
        console: Console to print on.
    """
    console.print(_accuracies(tally))
    for title, groups in (
        ("Table 8: Δ by sex and label", TABLE_8),
        ("Table 9: Δ by race, sex and label", TABLE_9),
    ):
        console.print()
        console.print(title, style="bold", highlight=False)
        console.print(_deltas(tally, list(groups)))
    console.print()
    for line in _legend(len(tally.total)):
        console.print(Text(line, style="dim"), highlight=False)


def _legend(seeds: int) -> list[str]:
    lines = ["percent; Δ: accuracy of the distilled less the one-hot student's, in points"]
    if seeds > 1:
        lines.append("n, Δ: means over seeds; ±: 95 % interval of the mean over seeds, Student's t")
    return [*lines, "from … to: 95 % interval of one test set of n rows, paired, Agresti and Min"]


def _accuracies(tally: Tally) -> Table:
    table = _table("", "balanced", "paper", "average")
    balanced, average = _balanced(tally), _average(tally)
    for name, shown in _MODELS.items():
        table.add_row(
            shown,
            _with_half(*over_seeds(balanced[name])),
            f"{BALANCED[name]:.1f}",
            _with_half(*over_seeds(average[name])),
        )
    gain = BALANCED["distilled"] - BALANCED["one_hot"]
    table.add_row(
        "gain",
        _with_half(*over_seeds(balanced["distilled"] - balanced["one_hot"]), signed=True),
        points(gain / 100),
        _with_half(*over_seeds(average["distilled"] - average["one_hot"]), signed=True),
    )
    mean, half = over_seeds(100 * tally.delta)
    for i, (group, paper) in enumerate(BY_LABEL.items()):
        shown = f"  label {group.label} ({'> $50K' if group.label else '≤ $50K'})"
        table.add_row(shown, _with_half(mean[i], half[i], signed=True), points(paper / 100), "")
    return table


def _deltas(tally: Tally, groups: list[Group]) -> Table:
    """Return a row for each subgroup, in the paper's order."""
    by_race = groups[0].race is not None
    table = _table(*(["race"] if by_race else []), "sex", "label", "n", "Δ", "from … to", "paper")
    table.keys = 3 if by_race else 2
    for column in table.columns[: 2 if by_race else 1]:
        column.justify = "left"
    mean, half = over_seeds(100 * tally.delta)
    low, high = (100 * end for end in over_rows(tally))
    for group in groups:
        i = GROUPS.index(group)
        table.add_row(
            *([str(group.race)] if by_race else []),
            str(group.sex),
            str(group.label),
            f"{tally.total[:, i].mean():,.0f}",
            _with_half(mean[i], half[i], signed=True),
            DASH if math.isnan(low[i]) else f"{points(low[i] / 100)} … {points(high[i] / 100)}",
            points(PAPER[group] / 100),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table()
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _balanced(tally: Tally) -> dict[str, FloatArray]:
    """Return the balanced accuracy of each model in percent, by seed."""
    total = tally.total[:, _LABELS]
    return {n: 100 * balanced_accuracy(vars(tally)[n][:, _LABELS], total) for n in _MODELS}


def _average(tally: Tally) -> dict[str, FloatArray]:
    """Return the average accuracy of each model in percent, by seed."""
    total = tally.total[:, _LABELS]
    return {n: 100 * average_accuracy(vars(tally)[n][:, _LABELS], total) for n in _MODELS}


def _with_half(mean: FloatArray | float, half: FloatArray | float, *, signed: bool = False) -> str:
    """Return percentages as ``78.1 ± 0.3``; a dash without a mean, no ± without an interval."""
    shown = (points if signed else percent)(float(mean) / 100)
    known = not (math.isnan(mean) or math.isnan(half))
    return f"{shown} ± {percent(float(half) / 100)}" if known else shown


def _number(value: FloatArray | float) -> float | None:
    return float(value) if math.isfinite(value) else None
