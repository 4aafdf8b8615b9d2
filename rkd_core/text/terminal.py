"""Standard output and error that work with any encoding and after their reader has ended.

This module imports only the standard library, so that it works if dependencies are missing.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import select
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

__all__ = ["command_line", "prepare", "shown", "spill_to", "transliterate"]

log = logging.getLogger(__name__)

_ERRORS = "rkd.transliterate"
_STREAMS = {"stdout": 1, "stderr": 2}

_SYMBOLS = {
    "→": "->",
    "←": "<-",
    "▸": ">",
    "○": "o",
    "−": "-",
    "–": "-",
    "—": "-",
    "±": "+-",
    "×": "x",
    "·": "-",
    "•": "*",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "∞": "inf",
    "ₜ": "_t",
    "ₛ": "_s",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "⁄": "/",  # in fractions decomposed by NFKD
}


def transliterate(text: str) -> str:
    """Return ASCII that reads like ``text``: ``alpha`` for α, ``->`` for →, ``e`` for é.

    A letter of another script becomes its escape, ``\\u732b``, so that names stay different; any
    other sign becomes a question mark.
    """
    return "".join(c if c.isascii() else _ascii(c) for c in text)


def shown(text: str, encoding: str) -> str:
    """Return the text with transliterations of the characters that the encoding lacks."""
    return text.encode(encoding, _ERRORS).decode(encoding)


def command_line(words: Sequence[str]) -> str:
    """Return the words of a command as typed in a shell; a script runs with ``python``.

    ``Sweep`` stands for a call from Python.
    """
    return shlex.join([*(() if words[:1] in (["rkd"], ["Sweep"]) else ("python",)), *words])


def _ascii(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        vertical, horizontal = "VERTICAL" in name, "HORIZONTAL" in name
        return "|" if vertical and not horizontal else "-" if horizontal and not vertical else "+"
    if "\u2580" <= character <= "\u259f":  # block elements, which draw bars
        return "#"
    plain = unicodedata.normalize("NFKD", character)
    kept = "".join(
        c if c.isascii() else _SYMBOLS.get(c, "") for c in plain if not unicodedata.combining(c)
    )
    if kept:
        return kept
    words = unicodedata.name(plain[0], "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        letter = words[words.index("LETTER") + 1].lower()
        return letter.capitalize() if "CAPITAL" in words else letter
    named = unicodedata.category(character)[0] == "L" or "\ud800" <= character <= "\udfff"
    return character.encode("ascii", "backslashreplace").decode() if named else "?"


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Handle characters that an encoding lacks, for ``codecs.register_error``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return transliterate(error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replace)


class _Sink(io.FileIO):
    """A file descriptor that accepts all output, even after its reader has ended.

    Output without a reader goes to the file that ``spill_to`` names, or is dropped.
    """

    lost: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write all bytes; an unbuffered stream (``python -u``) would not retry a partial write."""
        rest = memoryview(content).cast("B")
        while rest:
            try:
                written = super().write(rest)
            except OSError as error:
                if self.lost is not None:
                    break  # the file that replaces it cannot be written either
                self.lost = error
                _redirect(self)
                _announce(self, error)
                continue
            if written is None:  # another process has made the terminal non-blocking
                select.select([], [self.fileno()], [])
            else:
                rest = rest[written:]
        return len(content)


_sinks: dict[str, _Sink] = {}
_spare: Path | None = None


def prepare(*, own_process: bool) -> None:
    """Make this process's standard output and error independent of their reader and encoding.

    Call it first in a command. A character that the encoding lacks is transliterated; a closed
    descriptor is opened on ``/dev/null``, so that no other file gets its number.

    Args:
        own_process: Whether the process belongs to this command alone. If so, it restarts if the
            locale is not UTF-8, for example Latin-1, which would misread file and class names.
    """
    if own_process:
        _ensure_utf8()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, number in _STREAMS.items():
        stream: TextIO | None = getattr(sys, name)
        if stream is None:  # it was closed when Python started
            _install(name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            if name not in _sinks:
                _install(name, _lasting(name, number, stream))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_ERRORS)


def _ensure_utf8() -> None:
    """Restart this process in Python's UTF-8 mode, unless file names are UTF-8 already.

    Standard output keeps its encoding.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or sys.flags.ignore_environment:
        return
    if os.environ.get("PYTHONUTF8") == "1":  # a restart did not help: do not try again
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _lasting(name: str, number: int, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return an equivalent stream that accepts output even after its reader has ended."""
    with contextlib.suppress(OSError):
        stream.flush()
    sink = _sinks[name] = _Sink(number, "wb", closefd=False)
    return io.TextIOWrapper(
        sink if stream.write_through else io.BufferedWriter(sink),
        encoding=stream.encoding,
        errors=_ERRORS,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _install(name: str, stream: TextIO) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def spill_to(path: Path) -> None:
    """Append standard output and error to this file once they cannot be written."""
    global _spare  # noqa: PLW0603 (a process has one standard output)
    _spare = path
    for name, sink in _sinks.items():
        if sink.lost is not None:
            log.warning("cannot write to %s: %s", name, sink.lost)
            _redirect(sink)


def _redirect(sink: _Sink) -> None:
    """Point a descriptor to the spare file, or to ``/dev/null``."""
    append = os.O_WRONLY | os.O_APPEND
    try:
        target = os.open(_spare or os.devnull, append)
    except OSError:
        target = os.open(os.devnull, append)
    os.dup2(target, sink.fileno())
    os.close(target)


def _announce(sink: _Sink, error: OSError) -> None:
    """Report on standard error where output goes, unless its reader has ended and it is dropped."""
    if sink is not _sinks.get("stdout") or (error.errno == errno.EPIPE and _spare is None):
        return
    where = f"; it goes to {_spare}" if _spare is not None else ""
    print(f"standard output cannot be written: {error.strerror}{where}", file=sys.__stderr__)
