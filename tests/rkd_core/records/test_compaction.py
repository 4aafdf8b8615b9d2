"""The compaction of records never overrides the records themselves."""

import os
import shutil
import threading

import pyarrow as pa
import pytest

from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.records import compaction, parquet
from tests.rkd_core.records.test_records import ROW

NUMBER = parquet._MANY + 8


def row(number, **changes):
    return ROW | {"run_id": f"run{number:03}", "seed": number} | changes


def settle(folder):
    """Make files older than the resolution of a file system's clock."""
    for path in folder.glob("*.parquet"):
        before = path.stat().st_mtime - 60
        os.utime(path, (before, before))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "records"
    folder.mkdir()
    for number in range(NUMBER):
        content = records.serialize(row(number))
        (folder / f"run{number:03}.parquet").write_bytes(content)
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    """Records with an up-to-date compaction."""
    folder = tmp_path / "records"
    shutil.copytree(written, folder)
    settle(folder)
    monkeypatch.setattr("rkd_core.storage.local._YOUNG", -1.0)  # utime sets no change time
    records.read(folder)
    return folder


@pytest.fixture
def parsed(monkeypatch):
    """Names of the parsed files in order."""
    names, parse = [], records.parse

    def counting(path, content):
        names.append(path.stem)
        return parse(path, content)

    monkeypatch.setattr(parquet, "parse", counting)
    return names


def ids(numbers):
    return [f"run{number:03}" for number in numbers]


def test_a_second_reader_opens_only_changed_files(folder, monkeypatch):
    opened, read = [], parquet._read_files
    monkeypatch.setattr(
        parquet,
        "_read_files",
        lambda f, names, known: opened.append(names) or read(f, names, known),
    )
    records.read(folder)
    changed = folder / "run003.parquet"
    changed.write_bytes(records.serialize(row(3, seed=99)))
    assert records.read(folder)["seed"].to_pylist()[3] == 99
    assert opened == [[], ["run003"]]


def test_a_second_reader_parses_nothing(folder, parsed):
    again = records.read(folder)
    assert parsed == []
    assert again.equals(
        pa.concat_tables(records.parse(p, p.read_bytes()) for p in sorted(folder.glob("*.parquet")))
    )
    assert again.schema.equals(records.SCHEMA)
    assert again["run_id"].num_chunks == 1
    assert [p.name for p in folder.iterdir() if p.name[0] == "."] == [compaction.NAME]


def test_some_of_many_come_from_it_too(folder, parsed):
    some = [*ids(range(NUMBER - 1)), "absent"]
    assert records.read(folder, some)["run_id"].to_pylist() == some[:-1]
    assert parsed == []


def test_a_copy_of_the_folder_is_compared_by_content(folder, parsed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)  # the copies have new times and inodes
    assert records.read(copy).equals(records.read(folder))
    assert parsed == []


def test_new_changed_and_deleted_records_are_noticed(folder, parsed):
    (folder / "run003.parquet").unlink()
    changed = folder / "run005.parquet"
    before = changed.stat()
    changed.write_bytes(records.serialize(row(5, val_average_accuracy=0.6)))
    assert changed.stat().st_size == before.st_size
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "run900.parquet").write_bytes(records.serialize(row(900)))
    table = records.read(folder)
    assert table["run_id"].to_pylist() == ids([*range(3), *range(4, NUMBER), 900])
    assert table["val_average_accuracy"].to_pylist().count(0.6) == 1
    assert sorted(parsed) == ["run005", "run900"]


def test_a_failure_that_a_success_replaces_is_noticed(folder, parsed):
    failed = folder / "run007.parquet"
    failed.write_bytes(records.serialize(row(7, status="failed")))
    (folder / compaction.NAME).unlink()
    assert records.read(folder)["status"].to_pylist().count("failed") == 1
    assert records.write(folder, row(7))
    parsed.clear()
    assert records.read(folder)["status"].to_pylist().count("failed") == 0
    assert parsed == ["run007"]


def test_recently_written_files_are_compared_by_content(folder, parsed, monkeypatch):
    """A clock that does not advance would hide a change of the same length."""
    monkeypatch.setattr("rkd_core.storage.local._YOUNG", 3600.0)
    (folder / compaction.NAME).unlink()
    records.read(folder)
    assert set(compaction.load(folder, records.SCHEMA).identities) == {""}
    parsed.clear()
    records.read(folder)
    assert parsed == []


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "columns", "version", "folder"])
def test_a_compaction_that_is_not_sound_is_made_again(folder, parsed, damage, monkeypatch):
    path = folder / compaction.NAME
    content, before = path.read_bytes(), records.read(folder)
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "columns":
        monkeypatch.setattr(parquet, "SCHEMA", pa.schema([*records.SCHEMA, ("new", pa.int64())]))
    elif damage == "version":
        path.write_bytes(content.replace(b"records 1 ", b"records 2 ", 1))
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "empty": b"",
                "text": b"hello\nworld",
            }[damage]
        )
    again = records.read(folder)
    assert again.select(before.column_names).equals(before)
    assert len(parsed) == NUMBER
    if damage != "folder":
        parsed.clear()
        records.read(folder)
        assert parsed == []


def test_a_damaged_record_is_named_though_the_compaction_has_it(folder):
    path = folder / "run002.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"run002\.parquet"):
        records.read(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(written, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(written, folder)
    folder.chmod(0o500)
    assert len(records.read(folder)) == NUMBER


def test_a_compaction_that_cannot_be_written_is_done_without(written, tmp_path, monkeypatch):
    folder = tmp_path / "records"
    shutil.copytree(written, folder)

    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("rkd_core.storage.files.replace_file", refuse)
    assert len(records.read(folder)) == NUMBER
    assert not (folder / compaction.NAME).exists()


def test_few_records_have_no_compaction(tmp_path):
    for number in range(3):
        records.write(tmp_path, row(number))
    assert len(records.read(tmp_path)) == 3
    assert not (tmp_path / compaction.NAME).exists()


def test_reading_a_part_keeps_the_rest(folder, parsed):
    """Reading some of the records keeps the others in the compaction."""
    for number in range(100, 100 + parquet._MANY):
        (folder / f"run{number}.parquet").write_bytes(records.serialize(row(number)))
    assert len(records.read(folder, ids(range(100, 100 + parquet._MANY)))) == parquet._MANY
    parsed.clear()
    assert len(records.read(folder)) == NUMBER + parquet._MANY
    assert parsed == []


def test_readers_and_writers_at_a_time(written, tmp_path):
    folder = tmp_path / "records"
    shutil.copytree(written, folder)
    begun, problems = threading.Event(), []

    def write():
        for number in range(500, 508):
            records.write(folder, row(number, status="failed"))
            begun.set()
            records.write(folder, row(number))

    def read():
        for _ in range(4):
            table = records.read(folder)
            found = table["run_id"].to_pylist()
            if found != sorted({*found}) or not {*ids(range(NUMBER))} <= {*found}:
                problems.append(found)

    threads = [threading.Thread(target=work) for work in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    table = records.read(folder)
    assert len(table) == NUMBER + 8
    assert set(table["status"].to_pylist()) == {"completed"}
