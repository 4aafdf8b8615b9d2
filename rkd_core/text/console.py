"""Rich consoles and tables that adapt to the characters and the width of the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from rkd_core.text import terminal

__all__ = ["Console", "Table", "hanging"]

_NAME = 10
"""Minimum width of a cell in a column that folds."""
_INDENT = "  "


class Console(RichConsole):
    """rich's console, with columns that stay aligned if ``α`` is written as ``alpha``."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text in the form that is measured and printed."""
        return super().render_str(terminal.shown(text, self.encoding), **options)


class Table(RichTable):
    """rich's table without a box; its rows become paragraphs on a console that is too narrow.

    A paragraph begins with the cells of the first columns, which name the row. The other cells
    follow, each after its heading, one line for each group. A heading of two lines is a group above
    a name; a heading with an empty or missing first line belongs to the group on its left.

    Args:
        keys: Number of columns that name the row.
        close: Whether columns are separated by one blank instead of two.
    """

    def __init__(self, keys: int = 1, *, close: bool = False) -> None:
        padding = (0, 1 if close else 2, 0, 0)
        super().__init__(box=None, padding=padding, header_style="dim", pad_edge=False)
        self.keys = keys

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column as rich does; only a column that folds may be narrower than its cells."""
        options.setdefault("no_wrap", options.get("overflow") != "fold")
        super().add_column(header, *arguments, **options)

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        """Render as a table if no figure has to be cut, else as paragraphs."""
        texts = [[_text(console, cell) for cell in column.cells] for column in self.columns]
        heads = [_text(console, column.header) for column in self.columns]
        if self._width(heads, texts) <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._paragraphs(heads, texts)

    def _width(self, heads: list[Text], texts: list[list[Text]]) -> int:
        gap = self.padding[1]
        width = -gap
        for column, head, cells in zip(self.columns, heads, texts, strict=True):
            widest = max(_widest(text) for text in (head, *cells))
            width += gap + (min(widest, _NAME) if column.overflow == "fold" else widest)
        return width

    def _paragraphs(self, heads: list[Text], texts: list[list[Text]]) -> Iterator[Any]:
        labels = list(_labels([head.plain for head in heads]))
        named = [label for _, label in labels[: self.keys] if label]
        if len(named) == 1:
            yield Text(named[0], "dim")
        for place, row in enumerate(self.rows):
            cells = [column[place] for column in texts]
            style = str(row.style or "")
            title = Text(" ", style).join(
                Text.assemble(f"{label} " if label and len(named) > 1 else "", cell)
                for (_, label), cell in zip(labels[: self.keys], cells, strict=False)
                if cell.plain.strip()
            )
            yield hanging(title)
            groups: dict[str, list[Text]] = {}
            for (group, label), cell in list(zip(labels, cells, strict=True))[self.keys :]:
                if cell.plain.strip():
                    named_cell = Text.assemble(f"{label} ", cell)
                    groups.setdefault(group or label, []).append(named_cell)
            for group, said in groups.items():
                line = Text(", ", style).join(said)
                line = line if line.plain.startswith(group) else Text.assemble(f"{group} ", line)
                line.stylize(style)
                yield hanging(Text(_INDENT) + line)


def hanging(line: Text, indent: int = 2) -> Hanging:
    """Return a line whose continuation lines are indented further than its beginning.

    Args:
        line: The line; its leading blanks indent all of it.
        indent: Further indentation of the continuation lines.
    """
    bare = line.copy()
    bare.rstrip()
    blanks = len(bare.plain) - len(bare.plain.lstrip(" "))
    return Hanging(bare[blanks:], blanks, indent)


class Hanging:
    """A line that is wrapped to the console, see ``hanging``."""

    def __init__(self, line: Text, blanks: int, indent: int) -> None:
        self._line, self._blanks, self._indent = line, blanks, indent

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        begin, rest = " " * self._blanks, " " * (self._blanks + self._indent)
        if options.no_wrap or len(begin) + self._line.cell_len <= options.max_width:
            yield Text(begin) + self._line
            return
        width = max(1, options.max_width - len(rest))
        for place, part in enumerate(self._line.wrap(console, width)):
            part.rstrip()
            yield Text(begin if place == 0 else rest) + part


def _text(console: RichConsole, cell: Any) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell), highlight=False)


def _widest(text: Text) -> int:
    return max((line.cell_len for line in text.split("\n", allow_blank=True)), default=0)


def _labels(heads: list[str]) -> Iterator[tuple[str, str]]:
    """Return group and name of each heading."""
    group = ""
    for head in heads:
        first, newline, second = head.partition("\n")
        group = first.strip() or group if newline else ""
        yield group, (second if newline else first).strip()
