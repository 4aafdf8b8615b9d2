"""Parser of the command line, with one-line error messages."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, overload

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from rkd_core.datasets.readers.paths import escaped, is_unicode
from rkd_core.errors import UserError
from rkd_core.storage.files import expanded
from sweeps.cli.help_texts import common_alone, join_lines, paragraphs, printed_end
from sweeps.cli.options import Options

__all__ = ["parse"]

T = TypeVar("T")

_PATHS = ConstructorRegistry()


@_PATHS.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    """Expand ``~`` in every option that is a ``Path``."""
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=lambda arguments: _expanded(arguments[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda path: [str(path)],
    )


class _RefusedError(Exception):
    """Error for bad input whose text tyro keeps; it replaces that of a ``ValueError``."""


def _expanded(text: str) -> Path:
    try:
        return expanded(text)
    except UserError as error:
        raise _RefusedError(str(error)) from error


@overload
def parse(arguments: Sequence[str] | None = None) -> Options: ...
@overload
def parse(arguments: Sequence[str] | None, program: str, options: type[T]) -> T: ...
def parse(
    arguments: Sequence[str] | None = None,
    program: str = "pareto.py",
    options: type[T] | type[Options] = Options,
) -> T | Options:
    """Parse a command line, by default that of ``pareto.py``.

    Raises:
        UserError: A flag or a value is wrong or not UTF-8; the message names it.
        SystemExit: ``--help`` or ``--help-all`` was given; the help is printed and the exit code
            is 0.
    """
    given = _words(list(sys.argv[1:] if arguments is None else arguments), options)
    for argument in given:
        if not is_unicode(argument):
            raise UserError(
                f"{escaped(argument)} has bytes that are not UTF-8, which records and reports "
                "cannot hold: rename the folder or file"
            )
    whole = "--help-all" in given
    given = ["--help" if word == "--help-all" else word for word in given]
    helping = bool({"-h", "--help"} & {*given})
    if helping:
        join_lines(options)
    complaint, hidden = io.StringIO(), 0
    try:
        with contextlib.redirect_stderr(complaint), contextlib.ExitStack() as shown:
            if helping and not whole:
                hidden = shown.enter_context(common_alone(options))
            return tyro.cli(
                options,
                prog=program,
                description=paragraphs(options) if helping else None,
                args=given,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
                registry=_PATHS,
            )
    except SystemExit as stop:
        if not stop.code:
            print(printed_end(options, program, hidden))
            raise
        raise UserError(_one_line(complaint.getvalue())) from None
    except _RefusedError as refused:
        raise UserError(str(refused)) from None


_LISTS = (
    *("--alphas", "--temperatures", "--seeds", "--repeat", "--tune", "--milestones", "--betas"),
    *("--student-stages", "--teacher-stages"),
)
"""Options whose values may also be separated by commas."""
_NETWORKS = ("--student-architecture",)
"""Lists of networks, which may have commas in parentheses or quotes."""
_JOINED = ("--methods", "--order", "--augmentation")
"""Options with one value separated by commas, which may also be separated by blanks."""


def _words(given: list[str], options: type) -> list[str]:
    """Return the words with a flag before a leading name, and with lists in tyro's form.

    Raises:
        UserError: The option that the leading name stands for is given, too.
    """
    leading = getattr(options, "LEADING", None)
    if leading is not None and given and not given[0].startswith("-"):
        if any(word.split("=")[0] == leading for word in given[1:]):
            raise UserError(f"{given[0]} and {leading} both name one: leave one of them out")
        given = [leading, *given]
    words: list[str] = []
    flag, first = "", True
    for word in given:
        name, equals, value = word.partition("=")
        if word.startswith("--"):
            flag = name.replace("_", "-")
            is_list = bool(equals) and flag in (*_LISTS, *_NETWORKS)
            words += [name, *_parts(flag, value)] if is_list else [word]
            first = not equals
        elif flag in (*_LISTS, *_NETWORKS):
            words += _parts(flag, word)
        elif flag in _JOINED and not first:
            words[-1] = f"{words[-1].rstrip(',')},{word}"
        else:
            words.append(word)
            first = False
    return words


def _parts(flag: str, word: str) -> list[str]:
    """Return the values of a list that one word holds."""
    whole = word.rstrip(",") or word
    return networks_of(whole) if flag in _NETWORKS else whole.split(",")


def networks_of(text: str) -> list[str]:
    """Return the networks that a text names, separated by commas outside of parentheses.

    >>> networks_of("resnet8,mlp(hidden=(64, 32))")
    ['resnet8', 'mlp(hidden=(64, 32))']
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and depth:
            quote = character
        else:
            depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _one_line(box: str) -> str:
    """Return the first paragraph of a tyro error, which names the fault, as one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [re.sub(r"^-{3,}$", "───", line.strip("│|╭╮╰╯+ \t")) for line in text.splitlines()]
    paragraphs = re.split(r"\n\s*\n|\n[─-]{3,}.*\n", "\n".join(lines[1:-1]))
    first = re.sub(r"^(─+ )+", "", " ".join(paragraphs[0].split()))
    value = re.match(r"Error parsing (--[\w-]+): (.*)", first)
    if value:
        given = re.findall(r"'([^']*)'", value[2].rsplit("from [", 1)[-1])
        first = f"{value[1]} cannot be {', '.join(given)}"
    close = next((p for p in paragraphs[1:] if p.lstrip().startswith("Perhaps you meant")), "")
    suggestion = re.search(r"--[\w-]+", close)
    hint = f"; did you mean {suggestion[0]}?" if suggestion else ""
    return f"{first.rstrip('.')}{hint} (see --help)"
