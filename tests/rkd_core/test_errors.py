import pickle

import pytest

from rkd_core.errors import UserError


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
