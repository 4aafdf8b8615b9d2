"""Arguments of a command line: a leading name, lists, help, and ``~`` in every path."""

import re
from pathlib import Path

import pytest

from rkd_core.datasets.cache import default_folder
from rkd_core.datasets.readers.locate import given_folders
from rkd_core.errors import UserError
from rkd_core.storage.files import location
from sweeps.api.arguments import names
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


def test_an_unknown_user_is_one_line(home):
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


def test_a_leading_name_is_the_data_set_or_the_table():
    assert parse(["digits-lt", "--serial"]) == parse(["--serial", "--dataset", "digits-lt"])
    options = parse(["wang-1", "--dataset", "cifar10-lt"], "paper.py", PaperOptions)
    assert (options.table, options.data.dataset) == ("wang-1", "cifar10-lt")
    for flag in (["--dataset", "digits"], ["--dataset=digits"]):
        with pytest.raises(UserError, match=r"^cifar10 and --dataset both name one: leave one"):
            parse(["cifar10", *flag])
    with pytest.raises(UserError, match="digits"):
        parse(["--serial", "digits"])
    with pytest.raises(UserError, match="x"):
        parse(["x"], "adult.py", AdultOptions)


@pytest.mark.parametrize(
    "words",
    [
        ["--alphas", "0", "0.5"],
        ["--alphas", "0,0.5"],
        ["--alphas=0,0.5"],
        ["--alphas", "0,", "0.5"],
        ["--alphas", "0,0.5,"],
    ],
)
def test_lists_take_blanks_or_commas(words):
    options = parse([*words, "--seeds", "1,2", "--methods", "tradeoff", "kd,dkd", "--serial"])
    assert options.grid.alphas == (0.0, 0.5)
    assert options.grid.seeds == (1, 2)
    assert options.grid.methods == "tradeoff,kd,dkd"
    assert options.machine.serial
    assert parse(["--methods=kd", "dkd"]).grid.methods == "kd,dkd"
    assert parse(["--seeds", "3,4"], "adult.py", AdultOptions).seeds == (3, 4)
    assert parse(["--order", "worst_k", "average"]).selection.order == "worst_k,average"
    assert parse(["--group", "a=b,c", "--floor", "a=0.5"]).selection.group == ("a=b,c",)


@pytest.mark.parametrize("words", [["0,,1"], ["0,x"], [","], [""]])
def test_a_list_with_a_gap_is_refused(words):
    with pytest.raises(UserError, match="--alphas"):
        parse(["--alphas", *words])


@pytest.mark.parametrize(
    ("program", "options"),
    [("pareto.py", Options), ("rkd sweep", Options), ("paper.py", PaperOptions)],
)
def test_the_help_has_headings_defaults_and_examples_that_parse(program, options, capsys):
    with pytest.raises(SystemExit):
        parse(["--help"], program, options)
    text = capsys.readouterr().out
    for heading in ("data options", "grid options", "training options", "machine options"):
        assert f" {heading} " in text
    words = " ".join(text.replace("│", " ").split())
    assert "40 for digits" in words
    assert "(default: 1 3 5; 1 3 or 1 with --scale small" in words
    for wrong in ("default: None", "default: False", "default: True", "LEADING", "EXAMPLES"):
        assert wrong not in text
    examples, hint = text.partition("examples:\n")[2].strip("\n").split("\n\n")
    examples = examples.splitlines()
    command = program if program.startswith("rkd") else f"python sweeps/{program}"
    assert len(examples) == len(options.EXAMPLES)
    for example in examples:
        assert example.startswith(f"  {command} ")
        assert len(example) <= 80
        words = example.partition("#")[0].removeprefix(f"  {command}").split()
        parse(words, program, options)
    hidden = len(names(Options)) - len(Options.COMMON)
    assert hint == f"{hidden} more options: {command} --help-all"


def test_the_whole_help_has_the_rare_options_too(capsys):
    shown = {}
    for word in ("--help", "--help-all", "--help"):
        with pytest.raises(SystemExit) as ended:
            parse([word])
        assert not ended.value.code
        shown[word] = re.findall(r"^[│ ] {1,2}--(\w[\w-]*)", capsys.readouterr().out, re.MULTILINE)
    common = {name.replace("_", "-") for name in Options.COMMON}
    assert {*shown["--help"]} == common
    whole = {name.replace("_", "-") for name in names(Options)}
    assert {name.removeprefix("no-") for name in shown["--help-all"]} == {
        name.removeprefix("no-") for name in whole
    }
    assert parse(["--split-seed", "3"]).data.split_seed == 3  # hidden only on the screen
