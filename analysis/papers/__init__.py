"""Tables of the papers, with our results beside theirs.

Each paper has a module with its numbers and findings as plain data. ``sweeps/paper.py`` trains the
models.
"""

from __future__ import annotations

from analysis.papers import ltkd, teachers_pet, wang
from analysis.papers.definitions import Table
from rkd_core.errors import UserError, unknown_name

__all__ = ["ADULT", "TABLES", "table"]

TABLES = {**wang.TABLES, **teachers_pet.TABLES, **ltkd.TABLES}
"""Functions from a data set's name to a table, by the table's name."""
ADULT = ("pet-8", "pet-9")
"""Tables on UCI Adult, which ``sweeps/adult.py`` prints."""


def table(name: str, dataset: str) -> Table:
    """Return a table for a data set; its numbers are None where the paper has none.

    Raises:
        UserError: There is no such table.
    """
    if name not in TABLES:
        raise unknown_name("table", name, [*TABLES, *ADULT])
    found = TABLES[name](dataset)
    if not found.cells:
        raise UserError(f"--table {name} has no cells for --dataset {dataset}")
    return found
