"""Records: a damaged one is refused, a strange one reads as plain pyarrow says or is refused."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from rkd_core import records
from tests.fuzz.cases import REFUSED, attempt, edited, edits, fuzz, nasty_text
from tests.rkd_core.records.test_records import ROW

FULL = ROW | {
    "class_names": ["cat", "dog"],
    "multipliers": [0.5, 1.5],
    "alpha_t": 0.25,
    "seed": 3,
    "spec": "{}",
}


@pytest.fixture(name="written", scope="module")
def one_record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    records.write(folder, FULL)
    path = folder / f"{ROW['run_id']}.parquet"
    return path, path.read_bytes(), records.parse(path, path.read_bytes())


@fuzz(1200, changes=edits())
def test_changed_bytes(written, changes):
    path, content, table = written
    path.write_bytes(edited(content, changes))
    found = attempt(lambda: records.read(path.parent), path)
    assert found is REFUSED or found.equals(table)


# ---- Other tables -----------------------------------------------------------------------------

KINDS = {
    "null": (pa.null(), [None]),
    "int8": (pa.int8(), [1]),
    "uint64": (pa.uint64(), [2**64 - 1, 5]),
    "int64": (pa.int64(), [-(2**63), 0, None]),
    "float": (pa.float32(), [0.5, float("nan"), float("inf")]),
    "double": (pa.float64(), [1e300, -0.0, float("nan"), None, 3.0]),
    "bool": (pa.bool_(), [True]),
    "string": (pa.string(), ["", "a\nb", "5", "nan", "completed", None]),
    "large": (pa.large_string(), ["completed", "x" * 1000]),
    "binary": (pa.binary(), [b"\xff", b"completed"]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["completed", None]),
    "list": (pa.list_(pa.int32()), [[1, 2], [], None, [None]]),
    "large list": (pa.large_list(pa.int64()), [[1]]),
    "fixed": (pa.list_(pa.float64(), 2), [[0.5, 1.5]]),
    "nested": (pa.list_(pa.list_(pa.int64())), [[[1]]]),
    "struct": (pa.struct([("a", pa.int64())]), [{"a": 1}]),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1)]]),
    "decimal": (pa.decimal128(20, 2), [None]),
    "date": (pa.date32(), [0]),
    "time": (pa.timestamp("ns"), [0, 2**62]),
    "seconds": (pa.timestamp("s", tz="Europe/Berlin"), [10**12]),
    "zone": (pa.timestamp("us", tz="UTC"), [0, 2**62, None]),
    "uuid": (pa.uuid(), [b"0" * 16]),
}
column = st.sampled_from([(kind, value) for kind, values in KINDS.values() for value in values])
names = st.one_of(st.sampled_from(records.SCHEMA.names), nasty_text)


@fuzz(
    900,
    columns=st.lists(st.tuples(names, column), max_size=4),
    rows=st.sampled_from([1, 1, 1, 1, 0, 2]),
    twice=st.booleans(),
    groups=st.booleans(),
    dictionary=st.booleans(),
)
def test_other_tables(tmp_path, columns, rows, twice, groups, dictionary):
    base = {"run_id": "x", "status": "completed", "schema_version": 1}
    named = [(name, pa.array([value])) for name, value in base.items()]
    for name, (kind, value) in columns:
        array = pa.array([value], kind)
        place = [i for i, (other, _) in enumerate(named) if other == name]
        if place and not twice:
            named[place[0]] = (name, array)
        else:
            named.append((name, array))
    try:
        table = pa.table([a for _, a in named], names=[n for n, _ in named])
        table = pa.concat_tables([table] * rows) if rows else table.slice(0, 0)
        path = tmp_path / "x.parquet"
        pq.write_table(table, path, row_group_size=1 if groups else None, use_dictionary=dictionary)
    except (pa.ArrowException, UnicodeEncodeError):  # no such file can be
        return
    found = attempt(lambda: records.read(tmp_path), path)
    if found is REFUSED:
        return
    assert rows == 1
    assert found.schema.equals(records.SCHEMA)
    (row,) = found.to_pylist()
    assert row["run_id"] == "x"
    plain = pq.ParquetFile(path).read()
    for field in records.SCHEMA:
        if field.name in plain.column_names:
            expected = plain[field.name].cast(field.type)
            assert str(found[field.name].to_pylist()) == str(expected.to_pylist())  # NaN too
        else:
            assert row[field.name] is None
