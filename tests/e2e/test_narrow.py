"""Output at 40 and 80 columns: on a terminal, on a dumb terminal and in a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from tests.analysis import worlds

ROOT = Path(__file__).parents[2]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(columns: int, *command: str, **environment: str) -> str:
    """Return the output of a command on a pseudo-terminal with this number of columns."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 200, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env=_environment(**environment),
    )
    os.close(follower)
    said = b""
    with contextlib.suppress(OSError):  # the other end of the terminal is closed
        while chunk := os.read(leader, 65536):
            said += chunk
    os.close(leader)
    assert process.wait(600) == 0, said
    return said.decode().replace("\r\n", "\n")


def in_a_pipe(*command: str, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env=_environment(**environment),
    )
    return ended.stdout.decode()


def _environment(**changes: str) -> dict[str, str]:
    dropped = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "COLORTERM")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | changes


def widest(text: str) -> int:
    return max(len(line) for line in ESCAPE.sub("", text).splitlines())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results")
    worlds.write(folder, worlds.sweep(("standard", 0.0, 1.0), ("standard", 0.0, 1.0), (1.0,)))
    return str(folder)


@pytest.mark.parametrize("columns", [40, 80])
@pytest.mark.parametrize("verbose", [False, True])
def test_an_answer_on_a_terminal(results: str, columns: int, verbose: bool) -> None:
    select = ("-m", "analysis.select", results, "--no-figures", *["--verbose"][:verbose])
    text = on_a_terminal(columns, *select)
    told, last = ESCAPE.sub("", text).rsplit("\n", 2)[:2]
    assert widest(told) <= columns
    assert "…" not in told
    assert ("selection.json in" if verbose else "/selection.json") in last
    assert "\x1b[1m" in text
    figures = re.compile(r"\d+\.\d(?:±\d+\.\d)?")
    assert {*figures.findall(on_a_terminal(200, *select))} == {*figures.findall(text)}


def test_no_color_and_a_dumb_terminal(results: str) -> None:
    select = ("-m", "analysis.select", results, "--no-figures")
    plain = on_a_terminal(40, *select, NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)  # bold and dim are no colors
    assert "\x1b" not in on_a_terminal(40, *select, TERM="dumb")
    assert "\x1b" not in in_a_pipe(*select)
    assert widest(in_a_pipe(*select, COLUMNS="40").rsplit("\n", 2)[0]) <= 40


def test_the_list_of_choices() -> None:
    command = ("sweeps/pareto.py", "--list")
    narrow, wide = on_a_terminal(40, *command), on_a_terminal(80, *command)
    assert widest(narrow) <= 40
    assert widest(wide) <= 80
    piped = in_a_pipe(*command, COLUMNS="40")
    assert "\x1b" not in piped
    words = [" ".join(ESCAPE.sub("", text).split()) for text in (narrow, wide, piped)]
    assert words[0] == words[1] == words[2]
    assert any(
        line.startswith("  FOLDER ") and "--test-list" in line for line in piped.splitlines()
    )
