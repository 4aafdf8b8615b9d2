"""Help of a command: its common options, texts as paragraphs, and examples at the end."""

from __future__ import annotations

import ast
import contextlib
import inspect
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import tyro

__all__ = ["common_alone", "join_lines", "paragraphs", "printed_end"]

_WIDEST = 100


def join_lines(options: type) -> None:
    """Join the lines of the help texts of all options; tyro would keep breaks of indented lines.

    A switch has no default in its text.
    """
    hints = get_type_hints(options, include_extras=True)
    named = {field.name for field in fields(options)}
    for base in options.__mro__:
        for name, text in _docstrings(base).items():
            if name in named and name in base.__annotations__:
                hint, line = hints[name], " ".join(text.split())
                own = tyro.conf.arg(help=line)
                if hint is bool:
                    own = tyro.conf.arg(help=line, help_behavior_hint="")
                base.__annotations__[name] = Annotated[hint, own]
    for name in named:
        if isinstance(hints[name], type) and is_dataclass(hints[name]):
            join_lines(hints[name])


@contextlib.contextmanager
def common_alone(options: Any) -> Iterator[int]:
    """Hide the options that ``options.COMMON`` does not name; yield their number.

    Options outside of groups are always shown, and all those of a command without ``COMMON``.
    """
    common: frozenset[str] = getattr(options, "COMMON", frozenset())
    groups = filter(is_dataclass, get_type_hints(options).values() if common else ())
    standing: list[tuple[dict[str, Any], str, Any]] = []
    for group in groups:
        own = get_type_hints(group, include_extras=True)
        for name in sorted({field.name for field in fields(group)} - common):
            annotations = group.__annotations__
            standing.append((annotations, name, annotations[name]))
            annotations[name] = Annotated[own[name], tyro.conf.Suppress]
    try:
        yield len(standing)
    finally:  # the same process may parse other words
        for annotations, name, annotation in standing:
            annotations[name] = annotation


def paragraphs(options: type) -> str:
    """Return the docstring of a class, wrapped to the width of the terminal."""
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    text = inspect.cleandoc(options.__doc__ or "")
    parts = (textwrap.fill(part, width - 1) for part in text.split("\n\n"))
    return textwrap.indent("\n".join(parts), " ")  # tyro keeps breaks of indented lines


def printed_end(options: Any, program: str, hidden: int) -> str:
    """Return the examples of a command as typed, and the command that shows hidden options."""
    command = program if program.startswith("rkd ") else f"python sweeps/{program}"
    examples = [f"  {command} {line}".rstrip() for line in getattr(options, "EXAMPLES", ())]
    lines = ["", "examples:", *examples] if examples else []
    if hidden:
        lines += ["", f"{hidden} more options: {command} --help-all"]
    return "\n".join(lines)


def _docstrings(options: type) -> dict[str, str]:
    """Return the strings below the fields of a class of this project, by name."""
    if not is_dataclass(options):
        return {}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: text.value.value
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
