import concurrent.futures
import struct
from datetime import UTC, datetime
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.records import parquet

ROW = {
    "run_id": "a" * 20,
    "stage": "teacher",
    "status": "completed",
    "val_class_total": [5, 5],
    "val_class_correct": [4, 3],
    "val_average_accuracy": 0.7,
    "started_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "schema_version": records.SCHEMA_VERSION,
}


def test_a_record_reads_back_as_it_was_written(tmp_path):
    assert records.write(tmp_path, ROW)
    table = records.read(tmp_path)
    assert table.schema.equals(records.SCHEMA)
    (row,) = table.to_pylist()
    assert {k: row[k] for k in ROW} == ROW
    assert all(row[k] is None for k in set(row) - set(ROW))
    assert [p.name for p in tmp_path.iterdir()] == [f"{ROW['run_id']}.parquet"]


def test_the_columns_others_rely_on_are_there_with_their_types():
    strings = [
        "run_id",
        "teacher_id",
        "stage",
        "method",
        "teacher_objective",
        "student_objective",
        "dataset",
        "architecture",
        "host",
        "device",
        "status",
        "spec",
    ]
    doubles = [
        "alpha_t",
        "alpha_s",
        "temperature",
        "val_average_accuracy",
        "val_worst_class_accuracy",
        "test_average_accuracy",
        "test_worst_class_accuracy",
        "train_seconds",
    ]
    lists = [
        "val_class_total",
        "val_class_correct",
        "test_class_total",
        "test_class_correct",
    ]
    for names, kind in (
        (strings, pa.string()),
        (doubles, pa.float64()),
        (lists, pa.list_(pa.int64())),
        (["seed", "epochs", "schema_version"], pa.int64()),
    ):
        for name in names:
            assert records.SCHEMA.field(name).type == kind, name


def test_put_if_absent_and_a_failure_can_be_mended(tmp_path):
    failed = ROW | {"status": "failed", "cause": "boom"}
    assert records.write(tmp_path, failed)
    assert records.write(tmp_path, ROW)
    assert not records.write(tmp_path, ROW | {"val_average_accuracy": 0.1})
    assert not records.write(tmp_path, failed)
    (row,) = records.read(tmp_path).to_pylist()
    assert row["status"] == "completed"
    assert row["val_average_accuracy"] == 0.7


def test_one_of_many_writers_wins(tmp_path):
    def attempt(number):
        return records.write(tmp_path, ROW | {"train_seconds": float(number)})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(32)))
    assert sum(outcomes) == 1
    (row,) = records.read(tmp_path).to_pylist()
    assert row["train_seconds"] == outcomes.index(True)


def test_reading_some_and_their_ids(tmp_path):
    for number, status in enumerate(["completed", "failed", "completed"]):
        records.write(tmp_path, ROW | {"run_id": f"run{number}", "status": status})
    (tmp_path / ".hidden.parquet").write_bytes(b"half a file")
    assert records.read(tmp_path)["run_id"].to_pylist() == ["run0", "run1", "run2"]
    assert records.read(tmp_path, ["run2", "run1", "absent"])["run_id"].to_pylist() == [
        "run1",
        "run2",
    ]
    assert len(records.read(tmp_path / "nowhere")) == 0


@pytest.mark.parametrize("run_id", ["../other/run", "no\0name", "x" * 5000, "", "/run", "\udcff"])
def test_an_id_that_is_no_name_of_a_file_does_not_exist(tmp_path, run_id):
    """Ids come from other records and from plans, so they may be arbitrary text."""
    records.write(tmp_path / "other", ROW | {"run_id": "run"})
    assert len(records.read(tmp_path / "records", [run_id])) == 0


def test_an_unknown_column_or_no_id_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="colour"):
        records.write(tmp_path, ROW | {"colour": "red"})
    with pytest.raises(ValueError, match="run_id"):
        records.write(tmp_path, {"stage": "teacher"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "two rows", "types"])
def test_a_file_that_is_not_ours_is_named(tmp_path, damage):
    path = tmp_path / "stranger.parquet"
    records.write(tmp_path, ROW | {"run_id": "stranger"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign":
        pq.write_table(pa.table({"x": [1]}), path)
    elif damage == "two rows":
        table = records.read(tmp_path)
        pq.write_table(pa.concat_tables([table, table]), path)
    elif damage == "types":
        wrong = pa.table({"run_id": ["stranger"], "status": ["completed"], "schema_version": ["x"]})
        pq.write_table(wrong, path)
    with pytest.raises(UserError, match=r"stranger\.parquet") as error:
        records.read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_later_versions_file_reads_and_is_checked(tmp_path, monkeypatch):
    later = pa.schema([*records.SCHEMA, ("later", pa.list_(pa.int64()))])
    path = tmp_path / "x.parquet"
    row = {"run_id": "x", "status": "completed", "schema_version": 1, "seed": 3}
    with monkeypatch.context() as patched:
        patched.setattr(parquet, "SCHEMA", later)
        path.write_bytes(records.serialize(row | {"later": [1, 2]}))
    (read,) = records.read(tmp_path).to_pylist()
    assert read["seed"] == 3
    assert "later" not in read
    table = pq.read_table(path)
    changed = table.set_column(table.column_names.index("later"), "later", pa.array([[1, 3]]))
    pq.write_table(changed, path)
    with pytest.raises(UserError, match="damaged"):
        records.read(tmp_path)


def test_an_older_file_without_a_newer_column_still_reads(tmp_path):
    records.write(tmp_path, ROW)
    path = tmp_path / f"{ROW['run_id']}.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["precision"]), path)
    (row,) = records.read(tmp_path).to_pylist()
    assert row["precision"] is None
    assert row["val_average_accuracy"] == 0.7


def test_a_value_that_changed_is_noticed(tmp_path):
    """Parquet itself does not detect a changed bit of a number or of a column's name."""
    records.write(tmp_path, ROW)
    path = tmp_path / f"{ROW['run_id']}.parquet"
    content = path.read_bytes()
    for old, new in (
        (struct.pack("<d", 0.7), struct.pack("<d", 0.9)),
        (b"val_class_correct", b"val_class_corrupt"),
        (b"val_class_correct", b"val_class_\xe5orrect"),
    ):
        path.write_bytes(content.replace(old, new))
        assert path.read_bytes() != content
        with pytest.raises(UserError, match=r"a\.parquet .*; move it away"):
            records.read(tmp_path)


@pytest.mark.parametrize(
    "column",
    [
        {"started_at": pa.array([2**62], pa.timestamp("us", tz="UTC"))},
        {"seed": [0.5]},
        {"val_class_total": ["many"]},
    ],
)
def test_values_that_no_record_can_hold(tmp_path, column):
    table = pa.table({"run_id": ["x"], "status": ["completed"], "schema_version": [1]} | column)
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet is not a record of this program"):
        records.read(tmp_path)


def test_a_column_that_is_there_twice(tmp_path):
    names = ["run_id", "status", "schema_version", "status"]
    columns = [pa.array(["x"]), pa.array(["failed"]), pa.array([1]), pa.array(["completed"])]
    pq.write_table(pa.table(columns, names=names), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet is not a record of this program"):
        records.read(tmp_path)


def test_a_record_in_memory_has_the_columns_and_types_of_the_schema():
    def arrow_type(hint):
        if get_origin(hint) is list:
            return pa.list_(arrow_type(get_args(hint)[0]))
        if isinstance(hint, UnionType):
            (hint,) = {*get_args(hint)} - {NoneType}
            return arrow_type(hint)
        times = {datetime: pa.timestamp("us", tz="UTC")}
        return ({str: pa.string(), int: pa.int64(), float: pa.float64()} | times)[hint]

    found = {name: arrow_type(hint) for name, hint in get_type_hints(records.Record).items()}
    assert pa.schema(list(found.items())).equals(records.SCHEMA)
