import pickle

import pytest

from rkd_core import records
from rkd_core.errors import UserError, first_line


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("a class named cat\ndog", r"a class named cat\ndog"),
        ("\x1b[2Jerased", r"\x1b[2Jerased"),
        ("no UTF-8: \udcff", r"no UTF-8: \udcff"),
        ("µ is fine, ' and \\ too", "µ is fine, ' and \\ too"),
    ],
)
def test_a_message_is_one_line_that_a_terminal_can_show(given, shown):
    assert str(UserError(given)) == shown
    assert str(pickle.loads(pickle.dumps(UserError(given)))) == shown


def test_a_line_without_end_is_cut_in_the_middle():
    line = str(UserError("file.parquet has " + "x" * 10**6 + "; add a column"))
    assert len(line) <= 2000
    assert line.startswith("file.parquet has xx")
    assert line.endswith("xx; add a column")


@pytest.mark.parametrize(
    ("message", "line"),
    [("one\ntwo", "one"), ("\n  one \ntwo", "one "), ("one\r\ntwo", "one"), ("", "OSError")],
)
def test_the_first_line_of_an_error(message, line):
    assert first_line(OSError(message)) == line


def test_the_first_line_of_an_error_without_a_message():
    assert first_line(ValueError(" \n")) == "ValueError"
    assert first_line(ValueError(), "no message") == "no message"


def test_an_empty_message_of_a_library_is_no_index_error(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", fail)
    with pytest.raises(UserError, match=r"a.parquet cannot be read as a record: OSError; move"):
        records.parse(tmp_path / "a.parquet", b"")
