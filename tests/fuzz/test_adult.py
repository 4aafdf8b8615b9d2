"""UCI Adult's two files with arbitrary content: rows as written, or one line with the file."""

import random

import pytest
from hypothesis import strategies as st

from rkd_core.tabular import adult
from tests.fuzz.cases import REFUSED, attempt, check_line, edited, edits, fuzz, nasty_text
from tests.rkd_core.tabular.adult_files import row, write_adult

names = st.sampled_from(["adult.data", "adult.test"])


@pytest.fixture(name="folder", scope="module")
def few_rows(tmp_path_factory):
    return write_adult(tmp_path_factory.mktemp("adult"), train=4, test=3)


@pytest.fixture(name="valid", scope="module")
def contents(folder):
    return {name: (folder / name).read_bytes() for name in ("adult.data", "adult.test")}


def read(folder, valid, name, content):
    """Assert that rows are complete and in range."""
    for each, there in valid.items():
        (folder / each).write_bytes(content if each == name else there)
    data = attempt(lambda: adult.read(folder), folder / name)
    if data is REFUSED:
        return data
    rows = len(data)
    assert data.numbers.shape == (rows, 6)
    assert (data.numbers >= 0).all()
    assert (data.codes >= 0).all()
    assert (data.codes < [len(values) for values in adult.CATEGORIES.values()]).all()
    assert data.published_test.any()
    assert not data.published_test.all()
    assert data.ordinal().shape == (rows, 14)
    assert (data.one_hot()[:, 6:].sum(axis=1) == 8).all()
    return data


@fuzz(1000, name=names, changes=edits())
def test_changed_bytes(folder, valid, name, changes):
    read(folder, valid, name, edited(valid[name], changes))


@fuzz(
    700,
    name=names,
    seed=st.integers(0, 99),
    place=st.integers(0, 14),
    field=st.one_of(nasty_text, st.sampled_from(["?", "-1", "1e3", "0x1", "9" * 10, "1_0", "²"])),
)
def test_changed_fields(folder, valid, name, seed, place, field):
    """A field that is not as published is refused by line and column."""
    dot = "." if name == "adult.test" else ""
    fields = [*row(random.Random(seed)).split(", ")]
    fields[14] += dot
    before, fields[place] = fields[place], field
    content = valid[name] + ", ".join(fields).encode("utf-8", "surrogatepass")
    found = read(folder, valid, name, content)
    plain = "," not in field and "\n" not in field and "|" not in field
    if found is REFUSED and plain and field.strip():
        with pytest.raises(ValueError, match=r"line \d+, column ") as caught:
            adult.read(folder)
        column = [*adult.COLUMNS, "income"][place]
        check_line(str(caught.value), f"column {column}: ")
    elif found is not REFUSED:
        assert len(found) >= 7
        assert before is not None
