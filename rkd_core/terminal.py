"""Standard output and error that never end a command: not by their encoding, nor by their reader.

Imports the standard library alone, so that it works where dependencies are missing.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import logging
import os
import select
import sys
import unicodedata
from pathlib import Path
from typing import Any, TextIO

__all__ = ["prepare", "shown", "spill_to", "transliterate"]

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
    "⁄": "/",  # of NFKD's fractions
}


def transliterate(text: str) -> str:
    """Return ASCII that reads as ``text`` does: ``alpha`` for α, ``->`` for →, ``e`` for é.

    A letter of another script becomes its escape, ``\\u732b``, so that names stay different; any
    other sign becomes a question mark.
    """
    return "".join(c if c.isascii() else _ascii(c) for c in text)


def shown(text: str, encoding: str) -> str:
    """Return the text with what the encoding lacks transliterated."""
    return text.encode(encoding, _ERRORS).decode(encoding)


def _ascii(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    name = unicodedata.name(character, "")
    if name.startswith("BOX DRAWINGS"):
        vertical, horizontal = "VERTICAL" in name, "HORIZONTAL" in name
        return "|" if vertical and not horizontal else "-" if horizontal and not vertical else "+"
    if "\u2580" <= character <= "\u259f":  # block elements, of which bars are made
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
    """Handle the characters that an encoding lacks, as ``codecs.register_error`` wants it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return transliterate(error.object[error.start : error.end]), error.end


codecs.register_error(_ERRORS, _replace)


class _Sink(io.FileIO):
    """A descriptor that takes all that is written to it, also when its reader has ended.

    What nobody reads goes to the file that ``spill_to`` names, or nowhere.
    """

    lost: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write all of the bytes; an unbuffered stream (``python -u``) would not ask for more."""
        rest = memoryview(content).cast("B")
        while rest:
            try:
                written = super().write(rest)
            except OSError as error:
                if self.lost is not None:
                    break  # nor can the other file be written
                self.lost = error
                _redirect(self)
                _announce(self, error)
                continue
            if written is None:  # somebody else has made the terminal non-blocking
                select.select([], [self.fileno()], [])
            else:
                rest = rest[written:]
        return len(content)


_sinks: dict[str, _Sink] = {}
_spare: Path | None = None


def prepare(*, own_process: bool) -> None:
    """Make standard output and error of this process outlast their reader and their encoding.

    To be called first in a command. A character that the encoding lacks is transliterated; a
    descriptor that is closed is opened on ``/dev/null``, so that no file of ours takes its number.

    Args:
        own_process: Whether the process is this command's alone. Then it starts again where the
            locale is not UTF-8, as Latin-1 is, since names of files and classes would be misread.
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
    """Start this process again in Python's UTF-8 mode, unless names of files are UTF-8 already.

    The screen keeps the encoding that it has.
    """
    if sys.getfilesystemencoding().lower() == "utf-8" or sys.flags.ignore_environment:
        return
    if os.environ.get("PYTHONUTF8") == "1":  # and yet it is not: do not try for ever
        return
    os.environ["PYTHONUTF8"] = "1"
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _lasting(name: str, number: int, stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream like this one, which its reader cannot end."""
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
    """Append to this file what standard output and error can no longer show."""
    global _spare  # noqa: PLW0603 (a process has one standard output)
    _spare = path
    for name, sink in _sinks.items():
        if sink.lost is not None:
            log.warning("nobody reads %s: %s", name, sink.lost)
            _redirect(sink)


def _redirect(sink: _Sink) -> None:
    """Have a descriptor lead to the spare file, or nowhere."""
    append = os.O_WRONLY | os.O_APPEND
    try:
        target = os.open(_spare or os.devnull, append)
    except OSError:
        target = os.open(os.devnull, append)
    os.dup2(target, sink.fileno())
    os.close(target)


def _announce(sink: _Sink, error: OSError) -> None:
    """Say on standard error where output goes; nothing where it was not wanted, as by ``head``."""
    if sink is not _sinks.get("stdout") or (error.errno == errno.EPIPE and _spare is None):
        return
    where = f"; it goes to {_spare}" if _spare is not None else ""
    print(f"standard output cannot be written: {error.strerror}{where}", file=sys.__stderr__)
