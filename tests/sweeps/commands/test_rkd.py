"""The command ``rkd``: its subcommands, its help and its errors."""

import subprocess
import sys

import pytest

from rkd_core.text.terminal import command_line
from sweeps.commands import rkd

COMMANDS = ("sweep", "select", "report", "watch", "export", "verify", "predict", "paper", "adult")


def test_the_help_has_a_line_for_each_subcommand_and_loads_no_torch():
    code = (
        "import sys; from sweeps.commands.rkd import main; assert main(['--help']) == 0; "
        "assert not {'torch', 'ray', 'numpy', 'tyro'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    assert shown[: len(COMMANDS)] == [*COMMANDS]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["sweeep"], "rkd: unknown command 'sweeep': did you mean sweep?"),
        (["--dataset", "digits"], "rkd: unknown command '--dataset': choose one of sweep,"),
        ([], "rkd: name a command (see rkd --help)"),
    ],
)
def test_an_unknown_subcommand_is_refused_in_one_line(given, line, capsys):
    assert rkd.main(given) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(line)
    assert len(shown.err.splitlines()) == 1
    assert not shown.out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_usage_names_the_subcommand(name, capsys):
    with pytest.raises(SystemExit) as stop:
        rkd.main([name, "--help"])
    assert not stop.value.code
    assert f"usage: rkd {name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    "given",
    [
        ["sweep", "--dataset", "nonsense"],
        ["paper", "--table", "nonsense"],
        ["export", "nonsense"],
        ["verify", "nonsense"],
        ["predict", "nonsense"],
        ["select", "nonsense"],
        ["report", "nonsense"],
        ["adult", "--trees", "0"],
    ],
)
def test_bad_input_ends_in_one_line(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert rkd.main(given) == 2
    line = capsys.readouterr().err
    assert line.startswith((f"rkd {given[0]}: ", "error: "))
    assert len(line.splitlines()) == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("words", "typed"),
    [
        (["rkd", "sweep", "--out", "a b"], "rkd sweep --out 'a b'"),
        (["Sweep", "--dataset=data"], "Sweep --dataset=data"),
        (["sweeps/pareto.py", "--list"], "python sweeps/pareto.py --list"),
    ],
)
def test_the_command_is_repeated_as_typed(words, typed):
    assert command_line(words) == typed
