"""MkDocs hook that writes the reference of the command line from the help of the commands."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections.abc import Iterator
from typing import Any
from unittest import mock

from sweeps.commands import rkd

PLACE = "<!-- commands -->"
"""Comment in ``command-line.md`` that the reference replaces."""
COMMANDS = ("sweep", "select", "report", "watch", "export", "verify", "predict", "paper", "adult")
_GROUPED = ("sweep", "paper")
"""Commands whose ``--help`` has only the common options."""
_COLUMNS = "100"
_STARTS = re.compile(r"^ {1,2}(?:-{1,2}\w|\w+(?:  |$))", flags=re.MULTILINE)
"""Start of an option or of a positional argument; texts are further to the right."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the text of a page, with the reference in place of ``PLACE``."""
    if PLACE not in markdown:
        return markdown
    return markdown.replace(PLACE, "\n\n".join(map(reference, COMMANDS)))


def help_of(command: str) -> str:
    """Return the help of a command with all options, without colors and boxes."""
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # boxes are drawn in UTF-8
    environment = {"COLUMNS": _COLUMNS, "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict("os.environ", environment), contextlib.redirect_stdout(printed):
        try:
            code: object = rkd.main([command, "--help-all" if command in _GROUPED else "--help"])
        except SystemExit as ended:  # by argparse, after the help
            code = ended.code
    if code:
        raise RuntimeError(f"rkd {command} --help ended with {code}")
    printed.seek(0)
    lines = [line.rstrip() for line in printed.read().splitlines()]
    lines = [re.sub(r"^╭─ (.*?) ─+╮$", r"\1:", line) for line in lines]
    lines = [re.sub(r"^│(.*)│$", r" \1", line).rstrip() for line in lines if line[:1] != "╰"]
    return "\n".join(line for line in lines if not line.lstrip().startswith("─"))


def reference(command: str) -> str:
    """Return the section of a command: usage, description, and a table for each group of options.

    Groups of options that ``rkd sweep`` also has are only named.
    """
    head, groups = _sections(help_of(command))
    usage, _, about = head.partition("\n\n")
    parts = [f"## rkd {command}", f"```text\n{usage}\n```", " ".join(about.split())]
    known = {} if command == "sweep" else dict(_sections(help_of("sweep"))[1])
    shared = [title for title, body in groups if known.get(title) == body]
    for title, body in groups:
        anchor = f"{{ #{command}-{title.replace(' ', '-')} }}"
        if title == "examples":
            parts += [f"### Examples {anchor}", f"```sh\n{inspect.cleandoc(body)}\n```"]
            continue
        rows = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in _entries(body)]
        if title in shared or not rows:
            continue
        above = body[: next(_STARTS.finditer(body)).start()]
        parts += [f"### {title.capitalize()} {anchor}", " ".join(above.split())]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    if shared:
        parts.append(f"Also the {', '.join(shared)} of [rkd sweep](#rkd-sweep).")
    return "\n\n".join(part for part in parts if part)


def _sections(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the text above the first group of a help text, and title and body of each group."""
    first, *rest = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    return first.strip(), [*zip(rest[::2], (body.strip("\n") for body in rest[1::2]), strict=True)]


def _entries(body: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a group and their texts, which may be on several lines."""
    starts = [*_STARTS.finditer(body)]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        text = body[start.start() : following.start() if following else None].strip()
        name, _, about = text.partition("\n") if "  " not in text.split("\n")[0] else ("", "", "")
        if not name:
            name, _, about = text.partition("  ")
        if name != "-h, --help":
            yield name, " ".join(about.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
