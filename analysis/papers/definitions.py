"""Types of a paper's table: cells, the models they measure, and findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

__all__ = [
    "Cell",
    "Finding",
    "Gain",
    "Key",
    "Model",
    "Of",
    "Pair",
    "Part",
    "Selected",
    "Table",
    "TeacherAlone",
    "What",
]

T = TypeVar("T")
Key = tuple[str, str, str]
"""Row, column, metric."""


@dataclass(frozen=True)
class TeacherAlone:
    """A teacher of the grid: None for standard, 0 balanced, 1 robust."""

    alpha: float | None = None


@dataclass(frozen=True)
class Pair:
    """A combination of teacher and student, at the best temperature on validation."""

    alpha_t: float | None = None
    alpha_s: float | None = None


@dataclass(frozen=True)
class Selected:
    """The pair that the selection rule chooses on validation, by worst-k accuracy."""

    worst_k: int = 1


@dataclass(frozen=True)
class Of:
    """Students of a method, with the options of its grid that are best on validation.

    Attributes:
        method: Name of the method.
        options: Options that differ from the method's defaults, to restrict it to one variant;
            None for all variants.
    """

    method: str
    options: Mapping[str, Any] | None = None


Model = TeacherAlone | Pair | Selected | Of


@dataclass(frozen=True)
class Gain:
    """Differences between the figures of two models, seed by seed."""

    of: Model
    over: Model


What = Model | Gain


@dataclass(frozen=True)
class Cell:
    """A cell: the model it measures, and the paper's figure.

    Attributes:
        row: Row of the table.
        column: Column of the table.
        what: Model, or difference of two models, that the figures measure.
        paper: The paper's figures in percent, by metric (see ``analysis.papers.measure.figures``);
            None where it has none.
        part: Part of the table that trains it.
    """

    row: str
    column: str
    what: What
    paper: Mapping[str, float | None]
    part: int = 0


@dataclass(frozen=True)
class Finding:
    """A conclusion of the paper, as a predicate over the cells of a table.

    Attributes:
        text: The finding in words.
        holds: Predicate on the cells' figures in percent by key; at the small scale only cells of
            the table's ``small`` have figures.
    """

    text: str
    holds: Callable[[Mapping[Key, float]], bool]


@dataclass(frozen=True)
class Part:
    """One sweep of a table.

    Attributes:
        methods: Methods in the form of ``--methods``.
        alphas: Trade-offs of the grid; None for those of the data set.
        temperatures: Temperatures of the grid; None for those of the data set.
        imbalance: Imbalance ratio; None for that of the data set.
        networks: Teacher and student at the paper's scale; None for the data set's.
        small_networks: The same at the small scale.
        trained_small: Whether the part is worth training at the small scale.
    """

    methods: str
    alphas: tuple[float, ...] | None = None
    temperatures: tuple[float, ...] | None = None
    imbalance: float | None = None
    networks: tuple[str, str] | None = None
    small_networks: tuple[str, str] | None = None
    trained_small: bool = True


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        name: Name for ``--table``.
        source: Paper and number of the table.
        cells: Cells in the order of rows and columns.
        findings: Findings on these cells.
        parts: Sweeps that train the cells.
        remark: Note on the comparison, shown below the table.
    """

    name: str
    source: str
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    remark: str = ""

    @property
    def small(self) -> Table:
        """The table without the parts and cells that the small scale does not train."""
        kept = {n for n, part in enumerate(self.parts) if part.trained_small}
        return replace(self, cells=tuple(cell for cell in self.cells if cell.part in kept))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of the cells, in order."""
        return tuple(dict.fromkeys(metric for cell in self.cells for metric in cell.paper))
