"""What a table of a paper is: cells, each with what it measures, and findings over them."""

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
    """A cell of the teacher x student grid, at its best temperature by validation."""

    alpha_t: float | None = None
    alpha_s: float | None = None


@dataclass(frozen=True)
class Selected:
    """The pair that the selection rule chooses on validation, by worst-k accuracy."""

    worst_k: int = 1


@dataclass(frozen=True)
class Of:
    """Students of a method, at the best of its grid by validation.

    Attributes:
        method: Its name.
        options: Those that differ from the method's defaults, if only that variant counts; None
            for all.
    """

    method: str
    options: Mapping[str, Any] | None = None


Model = TeacherAlone | Pair | Selected | Of


@dataclass(frozen=True)
class Gain:
    """The figures of one model less those of another, seed by seed."""

    of: Model
    over: Model


What = Model | Gain


@dataclass(frozen=True)
class Cell:
    """One cell: what it measures, and what the paper says.

    Attributes:
        row: Of the table, as it is shown.
        column: Of the table, as it is shown.
        what: Whose test figures these are.
        paper: The paper's figures in percent, by metric (see ``analysis.papers.figures``); None
            where it has none.
        part: Which of the table's parts trains it.
    """

    row: str
    column: str
    what: What
    paper: Mapping[str, float | None]
    part: int = 0


@dataclass(frozen=True)
class Finding:
    """What a paper concludes from a table, as a statement over its cells.

    Attributes:
        text: In words.
        holds: Whether it does, given the cells' figures in percent by key. Those of the table's
            ``small`` may be all there are.
    """

    text: str
    holds: Callable[[Mapping[Key, float]], bool]


@dataclass(frozen=True)
class Part:
    """One sweep of a table.

    Attributes:
        methods: As ``--methods`` has them.
        alphas: Of the grid; None for the data set's.
        temperatures: Of the grid; None for the data set's.
        imbalance: None for the data set's.
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
        name: As ``--table`` has it.
        source: Paper and number.
        cells: In the order in which rows and columns are shown.
        findings: Over the cells that it has.
        parts: What to train, one sweep each.
        remark: What a reader of the numbers has to know.
    """

    name: str
    source: str
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    remark: str = ""

    @property
    def small(self) -> Table:
        """Without the parts that are not trained at the small scale, and without their cells."""
        kept = {n for n, part in enumerate(self.parts) if part.trained_small}
        return replace(self, cells=tuple(cell for cell in self.cells if cell.part in kept))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Of the cells, in order."""
        return tuple(dict.fromkeys(metric for cell in self.cells for metric in cell.paper))
