"""The reader of UCI Adult: the published content, or one line with file, line and column."""

from pathlib import Path

import numpy as np
import pytest

from rkd_core.errors import UserError
from rkd_core.tabular import adult
from tests.rkd_core.tabular.adult_files import ROW, write_adult

MISSING = ROW.replace("State-gov", "?").replace("United-States", "?").replace("<=50K", ">50K")


@pytest.fixture(name="folder")
def two_files(tmp_path: Path) -> Path:
    (tmp_path / "adult.data").write_text(f"{ROW}\n{MISSING}\n{ROW}\n\n")
    (tmp_path / "adult.test").write_text(f"|1x3 Cross validator\n{MISSING}.\n\n")
    return tmp_path


def test_rows_are_read_as_written(folder: Path) -> None:
    data = adult.read(folder)
    assert len(data) == 4
    assert data.numbers.tolist() == [[39, 77516, 13, 2174, 0, 40]] * 4
    assert data.label.tolist() == [False, True, False, True]
    assert data.published_test.tolist() == [False, False, False, True]
    assert data.incomplete.tolist() == [False, True, False, True]
    assert data.has("workclass", "State-gov").tolist() == [True, False, True, False]
    assert data.has("native-country", "?").tolist() == [False, True, False, True]
    assert data.has("race", "White").all()
    assert not data.has("sex", "Female").any()


def test_every_value_has_its_own_code_and_column(tmp_path: Path) -> None:
    data = adult.read(write_adult(tmp_path))
    text = [
        [field.strip() for field in line.rstrip(".").split(",")]
        for name in ("adult.data", "adult.test")
        for line in (tmp_path / name).read_text().splitlines()
        if line and not line.startswith("|")
    ]
    ordinal, one_hot = data.ordinal(), data.one_hot()
    assert ordinal.shape == (450, 14)
    values = [value for values in adult.CATEGORIES.values() for value in values]
    assert one_hot.shape == (450, 6 + len(values)) == (450, 108)
    assert (one_hot[:, 6:].sum(axis=1) == 8).all()
    for i, fields in enumerate(text):
        row = dict(zip(adult.COLUMNS, fields[:-1], strict=True))
        numbers = [float(row[column]) for column in adult.NUMBERS]
        assert ordinal[i, :6].tolist() == one_hot[i, :6].tolist() == numbers
        codes = zip(adult.CATEGORIES.values(), ordinal[i, 6:].astype(int), strict=True)
        named = [known[code] for known, code in codes]
        assert named == [row[column] for column in adult.CATEGORIES]
        assert [values[j] for j in np.flatnonzero(one_hot[i, 6:])] == named
    assert data.label.tolist() == [fields[-1] == ">50K" for fields in text]


@pytest.mark.parametrize(
    ("name", "line", "content", "column", "what"),
    [
        ("adult.data", 1, "age, workclass\n", "fnlwgt is missing", "15 fields .* not 2"),
        ("adult.data", 2, f"{ROW}\n{ROW}, 1\n", "16 is too many", "15 fields .* not 16"),
        ("adult.data", 1, ROW.replace("39", "-9"), "age", "'-9' is not an integer"),
        ("adult.data", 1, ROW.replace("39", "3.9"), "age", "'3.9' is not an integer"),
        ("adult.data", 1, ROW.replace("39", "٣"), "age", "is not an integer"),
        ("adult.data", 1, ROW.replace("77516", "7" * 400), "fnlwgt", "is not an integer"),
        ("adult.data", 1, ROW.replace("77516", "?"), "fnlwgt", r"'\?' is not an integer"),
        ("adult.data", 1, ROW.replace("White", "Whit"), "race", "'Whit': did you mean White"),
        ("adult.data", 1, ROW.replace("Male", "?"), "sex", r"'\?': choose one of Female, Male"),
        ("adult.data", 1, f"{ROW}.", "income", "'<=50K.': did you mean <=50K?"),
        ("adult.test", 3, f"|1x3\n{ROW}.\n{ROW}\n", "income", "'<=50K': did you mean <=50K.?"),
        ("adult.test", 1, "PK\x03\x04\x00\xff", "workclass is missing", "15 fields"),
    ],
)
def test_other_files_are_refused_by_line_and_column(
    folder: Path, name: str, line: int, content: str, column: str, what: str
) -> None:
    (folder / name).write_text(content)
    start = rf"^{folder / name}, line {line}, column {column}: .*{what}"
    with pytest.raises(UserError, match=start) as caught:
        adult.read(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", ["", "\n\n", "|1x3 Cross validator\n"])
def test_empty_files_are_refused(folder: Path, content: str) -> None:
    (folder / "adult.test").write_text(content)
    with pytest.raises(UserError, match=r"adult\.test has no rows"):
        adult.read(folder)


def test_unreadable_files_are_refused(folder: Path) -> None:
    (folder / "adult.data").unlink()
    (folder / "adult.data").mkdir()
    with pytest.raises(UserError, match=r"adult\.data cannot be read: Is a directory"):
        adult.read(folder)


def test_searched_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"was not found; looked for .* in .*cache/datasets/adult$"):
        adult.find()
    last = write_adult(tmp_path / "cache" / "datasets" / "adult", 1, 1)
    assert adult.find() == last
    second = write_adult(tmp_path / "second" / "adult", 1, 1)
    monkeypatch.setenv("RKD_DATA_DIR", str(second.parent))
    assert adult.find() == second
    first = write_adult(tmp_path / "first", 1, 1)
    assert adult.find(first) == first
    (first / "adult.test").unlink()
    assert adult.find(first) == second
    with pytest.raises(UserError, match=r"`data_dir` .*nowhere is not a folder"):
        adult.find(tmp_path / "nowhere")
