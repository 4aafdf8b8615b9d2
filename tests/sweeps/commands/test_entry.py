"""Behavior that all commands share: a missing package, exit codes and the last line."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from rkd_core.errors import UserError
from sweeps.commands import entry
from sweeps.stop import Interrupted

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ("pareto.py", "paper.py", "adult.py", "export.py", "verify", "predict")


@pytest.mark.parametrize("program", COMMANDS)
def test_without_dependencies_each_command_says_how_to_install_them(program, tmp_path):
    script = ROOT / "sweeps" / f"{program.removesuffix('.py')}.py"
    done = subprocess.run(
        [sys.executable, "-S", "-I", str(script), "x"],  # without site-packages
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "is not installed here; set up with: python3 -m venv" in done.stderr
    assert done.stderr.startswith(f"{program}: the package ")
    assert len(done.stderr.splitlines()) == 1


def failing(monkeypatch, error, *, resumes=True):
    """Return the exit code of a command that raises this."""

    def main(line, stop):
        raise error

    monkeypatch.setitem(sys.modules, "sweeps.commands.fails", types.SimpleNamespace(main=main))
    return entry._run("fails.py", resumes, ["a b"])


@pytest.mark.parametrize(
    ("error", "resumes", "code", "line"),
    [
        (UserError("--x is bad"), True, 2, "fails.py: --x is bad"),
        (OSError("full"), True, 1, "fails.py: full; nothing finished is lost"),
        (OSError("full\n"), False, 1, r"fails.py: full\n"),
        (MemoryError(), True, 1, "fails.py: this process may use no more memory"),
        (Interrupted(15), True, 143, "continue with: python fails.py 'a b'"),
        (KeyboardInterrupt(), False, 130, "fails.py: stopped; nothing was written"),
    ],
)
def test_exit_codes_and_last_lines(monkeypatch, capsys, error, resumes, code, line):
    monkeypatch.setattr(entry.Stop, "handle_signals", lambda _: None)
    assert failing(monkeypatch, error, resumes=resumes) == code
    said = capsys.readouterr().err
    assert line in said
    assert len(said.splitlines()) == 1


def test_a_missing_module_of_the_project_is_a_fault(monkeypatch):
    with pytest.raises(ModuleNotFoundError):
        entry._run("absent.py", True, [])
