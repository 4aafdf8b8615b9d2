"""Text from outside, such as class names, as it may stand in CSV, LaTeX and Markdown."""

from __future__ import annotations

import re

__all__ = ["csv_text", "latex_text", "markdown_text"]

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
    "[": "{[}",  # after the end of a row it would be an option of that
    "*": "{*}",
    "α": r"$\alpha$",
    "±": r"$\pm$",
    "−": r"$-$",
    "—": "---",
    "–": "--",
    "→": r"$\rightarrow$",
}


def csv_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula: an apostrophe goes before one."""
    shown = _one_line(text)
    return f"'{shown}" if _FORMULA.match(text) else shown


def latex_text(text: str) -> str:
    """A text with LaTeX's special characters escaped; needs T1 fonts for quotation marks.

    Letters beyond what pdflatex knows are left as they are, for xelatex and lualatex.
    """
    escaped = "".join(_LATEX.get(c, c) for c in _one_line(text).replace("--", "-\0-"))
    return escaped.replace("\0", "{}")  # two hyphens are no dash


def markdown_text(text: str) -> str:
    """A text that stands in a cell of a Markdown table as it is."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    """Line ends as spaces; what is not printable as its escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.splitlines()))
