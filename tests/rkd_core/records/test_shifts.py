"""Files of shifts: complete, checked, and of one student each."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rkd_core.errors import UserError
from rkd_core.metrics import shift_family
from rkd_core.records import shifts
from tests.rkd_core.metrics.test_shift_family import problem


@pytest.fixture(name="made")
def table_of_a_student():
    return shifts.table("aa", problem(seed=1), problem(images=70, seed=2))


def test_counts_are_of_the_shifts_in_the_file(made):
    rows = made.to_pylist()
    assert [row["alpha"] for row in rows] == list(shift_family.ALPHAS)
    assert len({row["run_id"] for row in rows} | {"aa"}) == len(rows) + 1
    (val, val_labels), (test, test_labels) = problem(seed=1), problem(images=70, seed=2)
    crossed = shift_family.cross_fitted(val, val_labels)
    for i, row in enumerate(rows):
        shift = np.float32(row["shift"])
        for name, logits, labels in (
            ("val_class_correct_in_sample", val, val_labels),
            ("test_class_correct", test, test_labels),
        ):
            right = labels[(logits + shift).argmax(axis=1) == labels]
            assert row[name] == np.bincount(right, minlength=5).tolist()
        assert row["val_class_correct"] == crossed[i].tolist()
        assert row["val_class_total"] == np.bincount(val_labels, minlength=5).tolist()
        assert row["test_class_total"] == np.bincount(test_labels, minlength=5).tolist()


def test_ids_are_fixed(made):
    assert made["run_id"].to_pylist()[:2] == ["3fe22098116c3b43bf45", "61ebc3076096a69b92be"]


def test_test_images_do_not_enter_the_fit(made):
    other = shifts.table("aa", problem(seed=1), problem(images=90, seed=3))
    untested = [name for name in shifts.SCHEMA.names if not name.startswith("test")]
    assert other.select(untested) == made.select(untested)


def test_a_file_is_written_once_and_read_back(made, tmp_path):
    assert shifts.missing(tmp_path, ["bb", "aa"]) == ["bb", "aa"]
    assert len(shifts.read(tmp_path, ["aa"])) == 0
    assert shifts.write(tmp_path, made)
    content = shifts.path_of(tmp_path, "aa").read_bytes()
    assert not shifts.write(tmp_path, shifts.table("aa", problem(seed=9), problem(seed=9)))
    assert shifts.path_of(tmp_path, "aa").read_bytes() == content
    assert shifts.read(tmp_path, ["aa", "bb"]) == made
    assert shifts.missing(tmp_path, ["bb", "aa"]) == ["bb"]
    assert pq.read_table(shifts.path_of(tmp_path, "aa")).to_pylist() == made.to_pylist()


@pytest.mark.parametrize("damage", ["truncated", "changed", "other", "columns", "empty"])
def test_a_damaged_file_is_named(made, tmp_path, damage):
    shifts.write(tmp_path, made)
    path = shifts.path_of(tmp_path, "aa")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other":
        path = path.rename(path.with_name("bb.parquet"))
    else:
        table = pq.read_table(path)
        if damage == "columns":
            table = table.drop_columns(["shift"])
        else:
            wrong = pa.array([[1.0] * 5] * len(table))
            table = table.set_column(table.schema.get_field_index("shift"), "shift", wrong)
        pq.write_table(table, path)
    with pytest.raises(UserError, match=f"{path.name} cannot be read as shifts .*; delete it"):
        shifts.read(tmp_path, [path.stem])
