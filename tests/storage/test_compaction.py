"""Records in a store are compared by the versions in its listing, without a request for each."""

from rkd_core import records
from rkd_core.records import compaction, parquet
from rkd_core.storage import files
from tests.rkd_core.records.test_records import ROW

NUMBER = parquet._MANY + 2


def row(number, **changes):
    return ROW | {"run_id": f"run{number:02}", "seed": number} | changes


def test_only_what_has_changed_is_read_again(out, monkeypatch):
    folder = out / "records"
    for number in range(NUMBER):
        _put(folder, row(number))
    assert len(records.read(folder)) == NUMBER
    assert files.exists(folder / compaction.NAME)
    records.read(folder)  # a local file is trusted only some seconds after it was written
    monkeypatch.setattr("rkd_core.storage.local._YOUNG", -1.0)

    read = []
    monkeypatch.setattr(files, "read_many", _noting(read))
    _put(folder, row(3, status="failed"))
    files.remove(folder / "run05.parquet")
    table = records.read(folder)
    wanted = [f"run{number:02}" for number in range(NUMBER) if number != 5]
    assert table["run_id"].to_pylist() == wanted
    assert table["status"].to_pylist().count("failed") == 1
    if files.local_path(folder) is None:
        assert read == ["run03.parquet"]
    assert {*records.digests(folder)} == {*wanted}


def _put(folder, record):
    files.make_folder(folder)
    files.replace_file(folder / f"{record['run_id']}.parquet", records.serialize(record))


def _noting(names):
    read_many = files.read_many

    def noting(paths):
        names.extend(path.name for path in paths)
        return read_many(paths)

    return noting
