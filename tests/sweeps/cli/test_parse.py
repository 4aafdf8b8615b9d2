"""Expansion of ``~`` in every path from users; shells do not expand that of ``--out=~/x``."""

from pathlib import Path

import pytest

from rkd_core.datasets.cache import default_folder
from rkd_core.datasets.readers.locate import given_folders
from rkd_core.errors import UserError
from rkd_core.storage.files import location
from sweeps.cli.options import Options
from sweeps.cli.parse import parse
from sweeps.commands.adult import Options as AdultOptions
from sweeps.commands.export import Options as ExportOptions
from sweeps.commands.paper import PaperOptions


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Set a home folder and another working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    yield tmp_path / "home"
    assert not list((tmp_path / "elsewhere").iterdir())  # in particular no folder named ~


def values(options):
    """Return all values of nested options, by name."""
    for name, value in vars(options).items():
        yield from values(value) if hasattr(value, "__dataclass_fields__") else [(name, value)]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (Options, ["data-dir", "train-list", "test-list", "teacher-weights"]),
        (PaperOptions, ["save", "data-dir"]),
        (AdultOptions, ["data-dir", "out"]),
        (ExportOptions, ["to"]),
    ],
)
@pytest.mark.parametrize("joined", [True, False])
def test_options_that_are_paths(home, options, flags, joined):
    arguments = ["results"] if options is ExportOptions else []
    for flag in flags:
        arguments += [f"--{flag}=~/x"] if joined else [f"--{flag}", "~/x"]
    found = dict(values(parse(arguments, "pareto.py", options)))
    assert {found[flag.replace("-", "_")] for flag in flags} == {home / "x"}
    paths = {name for name, value in found.items() if isinstance(value, Path)}
    assert paths == {flag.replace("-", "_") for flag in flags}


def test_a_user_who_is_not_known_is_one_line(home):
    with pytest.raises(UserError, match=r"^~nobody-here/x: the home folder of ~nobody-here is not"):
        parse(["--data-dir=~nobody-here/x"])
    with pytest.raises(UserError, match="the home folder of ~nobody-here is not known"):
        location("~nobody-here/x")


def test_folders_of_results(home):
    assert location("~/x") == home / "x"
    assert location("~") == home
    assert location("~root") == Path("~root").expanduser() != Path("~root")
    assert location("./~/x") == Path.cwd() / "~/x"  # a folder named ~
    assert location("file:///~/x") == Path("/~/x")


@pytest.mark.parametrize("command", ["select", "report", "verify", "export"])
def test_commands_on_results(home, command, capsys):
    from analysis import select
    from analysis.report.__main__ import main as report
    from sweeps.export import main as export
    from sweeps.verify import main as verify

    main = {"select": select.main, "report": report, "verify": verify, "export": export}[command]
    assert main(["~/gone"]) == 2
    assert str(home / "gone") in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["RKD_CACHE_DIR", "XDG_CACHE_HOME"])
def test_variables(home, monkeypatch, variable):
    monkeypatch.delenv("RKD_CACHE_DIR")
    monkeypatch.setenv(variable, "~/c")
    assert default_folder() == home / ("c" if variable == "RKD_CACHE_DIR" else "c/rkd")
    monkeypatch.setenv("RKD_DATA_DIR", "~")
    assert given_folders(Path("~")) == [home, home]
