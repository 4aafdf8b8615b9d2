"""Export of tables as CSV, LaTeX (booktabs) and Markdown files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable
from itertools import groupby

from analysis.views.markup import csv_text, latex_text, markdown_table, markdown_text
from analysis.views.tables import Accuracy, Cell, Column, Sheet
from rkd_core.storage.files import Location, make_folder, replace_file

__all__ = ["as_csv", "as_latex", "as_markdown", "write_tables"]

_LONG = 40  # maximum number of rows on a page
_SYMBOLS = {"α_t": r"$\alpha_t$", "α_s": r"$\alpha_s$", "T": "$T$"}


def write_tables(folder: Location, tables: Iterable[Sheet]) -> list[Location]:
    """Write each table in the three formats, replacing existing files.

    Returns:
        Paths of the files.

    Raises:
        OSError: The folder cannot be written.
    """
    make_folder(folder)
    written = []
    formats = (("csv", as_csv), ("tex", as_latex), ("md", as_markdown))
    for sheet in tables:
        for suffix, text in formats:
            written.append(folder / f"{sheet.name}.{suffix}")
            replace_file(written[-1], text(sheet).encode())
    return written


def as_csv(sheet: Sheet) -> str:
    """Return CSV (RFC 4180) with unrounded fractions and a column for each standard error.

    Unknown values are empty.
    """
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(
        name
        for column in sheet.columns
        for name in ([column.key, f"{column.key}_se"] if column.accuracy else [column.key])
    )
    for row in sheet.rows:
        writer.writerow(value for cell in row for value in _values(cell))
    return sink.getvalue()


def _values(cell: Cell) -> list[str | int | float]:
    if isinstance(cell, Accuracy):
        return ["" if math.isnan(value) else value for value in (cell.mean, cell.error)]
    if isinstance(cell, str):
        return [csv_text(cell)]
    return ["" if cell is None else cell]


def as_latex(sheet: Sheet) -> str:
    r"""Return a ``tabular``, or a ``longtable`` if it does not fit on a page, for ``\input``."""
    long = len(sheet.rows) > _LONG
    environment = "longtable" if long else "tabular"
    columns, rows = _for_people(sheet)
    numeric = [_numeric(cells) for cells in zip(*rows, strict=True)]
    lines = [
        f"% {latex_text(sheet.caption)}",
        f"% \\usepackage[T1]{{fontenc}} \\usepackage{{booktabs{',longtable' if long else ''}}}",
        f"\\begin{{{environment}}}{{@{{}}{''.join('r' if n else 'l' for n in numeric)}@{{}}}}",
        r"\toprule",
    ]
    if any(column.group for column in columns):
        over, rules, start = [], [], 1
        for group, members in groupby(columns, key=lambda column: column.group):
            count = len(list(members))
            over.append(f"\\multicolumn{{{count}}}{{c}}{{{latex_text(group)}}}")
            if group:
                rules.append(f"\\cmidrule(lr){{{start}-{start + count - 1}}}")
            start += count
        lines += [" & ".join(over) + r" \\", "".join(rules)]
    headings = (_SYMBOLS.get(c.heading, latex_text(c.heading)) for c in columns)
    lines += [" & ".join(headings) + r" \\", r"\midrule", *([r"\endhead"] if long else [])]
    lines += [" & ".join(_shown(cell, latex_text) for cell in row) + r" \\" for row in rows]
    return "\n".join([*lines, r"\bottomrule", f"\\end{{{environment}}}", ""])


def as_markdown(sheet: Sheet) -> str:
    """Return a pipe table under its caption."""
    columns, rows = _for_people(sheet)
    numeric = [_numeric(cells) for cells in zip(*rows, strict=True)]
    headings = [markdown_text(f"{c.group} {c.heading}".strip()) for c in columns]
    table = markdown_table(
        headings, ([_shown(cell, markdown_text) for cell in row] for row in rows), numeric
    )
    return f"{markdown_text(sheet.caption)}. Accuracies in percent{_errors(sheet)}.\n\n{table}\n"


def _errors(sheet: Sheet) -> str:
    cells = (cell for row in sheet.rows for cell in row if isinstance(cell, Accuracy))
    any_error = any(not math.isnan(cell.error) for cell in cells)
    return ", ± one standard error" if any_error else ""


def _for_people(sheet: Sheet) -> tuple[list[Column], list[tuple[Cell, ...]]]:
    """Return columns and rows without hidden and empty columns."""
    kept = [
        place
        for place, column in enumerate(sheet.columns)
        if column.shown and any(row[place] not in (None, "") for row in sheet.rows)
    ]
    rows = [tuple(row[place] for place in kept) for row in sheet.rows]
    return [sheet.columns[place] for place in kept], rows


def _numeric(cells: Iterable[Cell]) -> bool:
    return not any(isinstance(cell, str) for cell in cells)


def _shown(cell: Cell, escaped: Callable[[str], str]) -> str:
    if isinstance(cell, Accuracy):
        return escaped(cell.text())
    if isinstance(cell, str):
        return escaped(cell)
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:g}"
