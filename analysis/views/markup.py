"""Markdown tables, and escaping of text for CSV, LaTeX and Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["csv_text", "latex_text", "markdown_table", "markdown_text"]

_FORMULA = re.compile(r"\s*[=+\-@]|[\t\r]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # LaTeX would read it as an option after the end of a row
    "*": "{*}",
    "α": r"$\alpha$",
    "±": r"$\pm$",
    "−": r"$-$",
    "—": "---",
    "–": "--",
    "→": r"$\rightarrow$",
}


def csv_text(text: str) -> str:
    """Return a text, prefixed with an apostrophe if a spreadsheet would read it as a formula."""
    shown = _one_line(text)
    return f"'{shown}" if _FORMULA.match(text) else shown


def latex_text(text: str) -> str:
    """Return a text with LaTeX's special characters escaped; quotation marks need T1 fonts.

    Letters that pdflatex does not support are kept for xelatex and lualatex.
    """
    escaped = "".join(_LATEX.get(c, c) for c in _one_line(text).replace("--", "-\0-"))
    return escaped.replace("\0", "{}")  # keep two hyphens from becoming a dash


def markdown_text(text: str) -> str:
    """Return a text with the special characters of Markdown escaped."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool]
) -> str:
    """Return a pipe table of cells that are already Markdown.

    Args:
        headings: Heading of each column.
        rows: Cells of each row.
        right: Whether each column is right-aligned.
    """
    rule = ["---:" if one else "---" for one in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, rule, *rows))


def _one_line(text: str) -> str:
    """Return a text with line ends replaced by spaces and unprintable characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
