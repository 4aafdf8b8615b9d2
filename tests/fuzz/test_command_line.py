"""The sweep's command line and environment: a plan, or exit code 2, a line, nothing written."""

import contextlib
import dataclasses
import io
import signal

import pytest
from hypothesis import strategies as st

from rkd_core.errors import UserError
from sweeps.cli.options import Options
from sweeps.pareto import main
from tests.fuzz.cases import check_line, fuzz, nasty_text

NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "1", "2", "-1", "-0", "0.5", "1e3", "1e999", "nan", "inf", "-inf", "1_0"]
    ),
    st.sampled_from(["2147483648", "9" * 19, "9" * 30, "9" * 400, "9" * 5000, "0x10", "1e-400"]),
    st.sampled_from(["٣", "²", "1 ", " 1", "1,2", "True", "None", "epoch"]),
    st.integers(-3, 30).map(str),
    st.floats(0, 1).map(str),
)
WORDS = st.one_of(
    st.sampled_from(["digits", "digits-lt", "cifar10", "Digits", "imagenet-lt", "paper", "small"]),
    st.sampled_from(["resnet20", "digits_cnn", "standard", "exponential", "step", "true"]),
    st.sampled_from(
        ["", "~", "~nobody/x", "/", ".", "..", "/dev/null", "/proc/x", "x" * 300, "file"]
    ),
    st.sampled_from(["x" * 5000, "a\nb", "\x1b[2J", "\udcff", "--", "-", "--epochs", "-h=1"]),
    nasty_text,
)
_FIELDS = [dataclasses.fields(group.default_factory) for group in dataclasses.fields(Options)]
FLAGS = [field.name.replace("_", "-") for fields in _FIELDS for field in fields]
for _name in ("address", "calibrate", "list", "dry-run"):  # joins a cluster, measures, prints
    FLAGS.remove(_name)
flag = st.sampled_from([f"--{name}" for name in FLAGS])
argument = st.one_of(
    st.tuples(flag, NUMBERS),
    st.tuples(flag, WORDS),
    st.tuples(flag),
    st.tuples(flag, NUMBERS, NUMBERS),
    st.builds(lambda f, v: (f"{f}={v}",), flag, NUMBERS),
    st.tuples(WORDS),
)


@pytest.fixture(autouse=True)
def quickly_and_at_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("rkd_core.datasets.readers.cifar.download", refused)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():  # the command has put its own there
        signal.signal(number, handler)


def refused(name, target):
    raise UserError(f"{name} is nowhere")


def command(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
    return code, out.getvalue(), err.getvalue()


def check(arguments, folder):
    code, out, err = command(arguments)
    assert code in (0, 2), (code, err)
    if code == 2:
        check_line(err.removesuffix("\n").removeprefix("pareto.py: "), "")
        assert err.startswith("pareto.py: ")
    else:
        assert "teacher" in out or "--help" in arguments or "-h" in arguments or "--quiet" in out
    assert list(folder.iterdir()) == []


@fuzz(350, arguments=st.lists(argument, max_size=4))
def test_any_arguments(tmp_path, arguments):
    flat = [text for parts in arguments for text in parts]
    if any("\0" in text for text in flat) or {"-h", "--help"} & set(flat):
        return
    flat = flat if "--quiet" not in flat else [text for text in flat if text != "--quiet"]
    check([*flat, "--dry-run"], tmp_path)


VARIABLES = ("RKD_CACHE_DIR", "RKD_DATA_DIR", "XDG_CACHE_HOME", "HOME", "CUDA_VISIBLE_DEVICES")


@fuzz(
    150,
    variables=st.dictionaries(st.sampled_from(VARIABLES), st.one_of(WORDS, NUMBERS), min_size=1),
    dataset=st.sampled_from(["digits", "cifar10", "tiny-imagenet-lt", "nowhere"]),
)
def test_any_environment(tmp_path, monkeypatch, variables, dataset):
    with monkeypatch.context() as patch:
        if any(".." in value or value.startswith("/") for value in variables.values()):
            return  # a cache folder may be made there
        try:
            for name, value in variables.items():
                patch.setenv(name, value)
        except (ValueError, UnicodeEncodeError):  # no environment can hold it
            return
        code, _, err = command(["--dataset", dataset, "--dry-run"])
        assert code == (0 if dataset == "digits" else 2), err
        if code:
            assert err.startswith("pareto.py: ")
            check_line(err.removesuffix("\n").removeprefix("pareto.py: "), "")
