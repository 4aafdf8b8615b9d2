"""Tables of the papers with our results, for the terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from analysis.papers.measure import Correlation, Figure, Measured, Verdict
from analysis.views.markup import markdown_table
from rkd_core.text.console import Table
from rkd_core.text.numbers import DASH, decimal, percent, seeds_of, with_error

__all__ = ["document", "markdown", "print_measured"]

_BESIDE = 3  # maximum number of columns of a Markdown table
_ROOM = 28  # terminal width of a column with the paper's figures and differences


def print_measured(measured: Measured, title: str, console: Console) -> None:
    """Print figures, correlations and findings."""
    console.print(Text(f"{measured.table.source}: {title}", style="bold"), highlight=False)
    for heading, header, rows in _grids(measured, max(1, console.width // _ROOM)):
        console.print()
        grid = Table()
        grid.add_column(f"\n{heading}")
        known = _has_paper(measured)
        for name in header:
            grid.add_column(f"{name}\nours" if known else f"\n{name}", justify="right")
            if known:
                grid.add_column("\npaper", justify="right")
                grid.add_column("\nΔ", justify="right")
        shown = 3 if known else 1
        for name, figures in rows:
            grid.add_row(name, *(text for figure in figures for text in _shown(figure)[:shown]))
        console.print(grid)
    console.print()
    findings = Grid.grid(padding=(0, 2, 0, 0))
    for verdict in measured.verdicts:
        style = {"holds": "green", "does not hold": "red"}.get(verdict.word, "yellow")
        findings.add_row(Text(verdict.word, style), Text(_share(verdict)), Text(verdict.text))
    console.print(findings)
    console.print()
    for line in (*_correlations(measured), *_remarks(measured)):
        console.print(Text(line, style="dim"), highlight=False)


def markdown(measured: Measured, title: str) -> str:
    """Return figures, correlations and findings as Markdown."""
    lines = [f"### {measured.table.source}: {title}", ""]
    for heading, header, rows in _grids(measured, _BESIDE):
        shown = 3 if _has_paper(measured) else 1
        names = [text for name in header for text in (name, "paper", "Δ")[:shown]]
        cells = [
            [name, *(text for figure in figures for text in _shown(figure)[:shown])]
            for name, figures in rows
        ]
        right = [False, *[True] * len(names)]
        lines += [markdown_table([heading, *names], cells, right), ""]
    findings = [[v.text, v.word, _share(v)] for v in measured.verdicts]
    lines.append(markdown_table(["finding", "here", "of draws"], findings, [False, False, True]))
    remarks = [*_correlations(measured), *_remarks(measured)]
    return "\n".join([*lines, "", *(f"- {line}" for line in remarks), ""])


def document(measured: Measured) -> dict[str, Any]:
    """Return figures in percent, correlations and findings as plain data."""
    return {
        "table": measured.table.name,
        "source": measured.table.source,
        "cells": [
            {"row": row, "column": column, "metric": metric, **vars(figure)}
            for (row, column, metric), figure in measured.figures.items()
        ],
        "findings": [
            {"text": v.text, "holds": v.holds, "share": None if v.holds is None else v.share}
            for v in measured.verdicts
        ],
        "rank_correlation": {name: vars(c) for name, c in measured.correlations.items()},
    }


def _grids(
    measured: Measured, wide: int
) -> Iterator[tuple[str, list[str], list[tuple[str, list[Figure | None]]]]]:
    """Yield the heading, the names of the columns and the rows of each grid to show.

    A table with several columns has a grid for each metric and each ``wide`` columns. A table with
    one column has a single grid, with the metrics as columns.
    """
    figures, table = measured.figures, measured.table
    rows = list(dict.fromkeys(cell.row for cell in table.cells))
    columns = list(dict.fromkeys(cell.column for cell in table.cells))
    if len(columns) == 1:
        (only,) = columns
        header = list(table.metrics)
        yield only, header, [(r, [figures.get((r, only, m)) for m in header]) for r in rows]
        return
    for metric in table.metrics:
        for start in range(0, len(columns), wide):
            few = columns[start : start + wide]
            yield metric, few, [(r, [figures.get((r, c, metric)) for c in few]) for r in rows]


def _shown(figure: Figure | None) -> tuple[str, str, str]:
    """Return our figure with its standard error, the paper's, and the difference."""
    if figure is None:
        return "", "", ""
    paper = DASH if figure.paper is None else decimal(figure.paper, 1)
    if figure.value is None:
        return DASH, paper, ""
    ours = with_error(figure.value / 100, (figure.error or 0.0) / 100, "±")
    if figure.paper is None:
        return ours, paper, ""
    return ours, paper, decimal(figure.value - figure.paper, 1, "+")


def _share(verdict: Verdict) -> str:
    return "" if verdict.holds is None else f"{percent(verdict.share, 0)} %"


def _has_paper(measured: Measured) -> bool:
    return any(figure.paper is not None for figure in measured.figures.values())


def _correlations(measured: Measured) -> list[str]:
    def shown(name: str, c: Correlation) -> str:
        return (
            f"rank correlation with the paper, {name}: {decimal(c.value)} "
            f"({decimal(c.low)} to {decimal(c.high)}) over {c.cells} cells"
        )

    return [shown(name, c) for name, c in measured.correlations.items()]


def _remarks(measured: Measured) -> list[str]:
    seeds = {figure.seeds for figure in measured.figures.values() if figure.seeds}
    most, count = max(seeds), seeds_of(min(seeds), max(seeds))
    over = (
        "test images alone, of one seed" if most == 1 else f"{count} and the test images they share"
    )
    first = f"test accuracy in percent, ± one standard error over {over}"
    second = "percent of 1,000 draws from that uncertainty; a finding is unclear from 5 to 95 %"
    return [first, second, *([measured.table.remark] if measured.table.remark else [])]
