"""Files of predictions: content, refusals and memory."""

import math
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest

from rkd_core.errors import UserError
from rkd_core.records import predictions

RUN = "a" * 20


def draw(images=40, classes=7, seed=0):
    random = np.random.default_rng(seed)
    logits = (5 * random.standard_normal((images, classes))).astype(np.float32)
    rows = np.sort(random.permutation(3 * images)[:images])
    return rows, random.integers(0, classes, images), logits


def content(kept="full", split="val", **changes):
    rows, labels, logits = draw(**changes)
    predicted = logits.argmax(axis=1)
    return predictions.serialize(RUN, split, "data", rows, labels, logits, predicted, kept)


def read(tmp_path, kept="full", names=None, **changes):
    return predictions.parse(place(tmp_path), content(kept, **changes), names)


def place(tmp_path, split="val"):
    return predictions.file_of(tmp_path, split, RUN)


@pytest.mark.parametrize("classes", [1, 2, 7])
@pytest.mark.parametrize("kept", ["full", "top"])
def test_columns_against_plain_loops(tmp_path, kept, classes):
    rows, labels, logits = draw(classes=classes)
    found = read(tmp_path, kept, classes=classes)
    assert (found.run_id, found.split, found.data_fingerprint) == (RUN, "val", "data")
    assert found.classes == classes
    columns = found.columns
    assert columns["image"].tolist() == rows.tolist()
    assert columns["label"].tolist() == labels.tolist()
    for k, (row, label) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
        best = row.index(max(row))
        normalizer = math.log(sum(math.exp(z) for z in row))
        assert columns["predicted"][k] == best
        assert columns["label_log_probability"][k] == pytest.approx(row[label] - normalizer)
        expected = pytest.approx(row[best] - normalizer, abs=1e-6)
        assert columns["predicted_log_probability"][k] == expected
        if kept == "top":
            order = sorted(range(classes), key=lambda c: -row[c])[:5]
            assert columns["top_classes"][k].tolist() == order
            assert columns["top_logits"][k].tolist() == [np.float16(row[c]) for c in order]
        else:
            assert columns["logits"][k].tolist() == [np.float16(z) for z in row]


def test_among_equal_logits_the_predicted_class_comes_first(tmp_path):
    logits = np.zeros((3, 8), np.float32)
    given = RUN, "val", "data", np.arange(3), np.zeros(3, np.int64), logits
    whole = predictions.serialize(*given, np.array([6, 0, 7]), "top")
    found = predictions.parse(place(tmp_path), whole).columns
    assert found["top_classes"][:, 0].tolist() == [6, 0, 7]


def test_logits_beyond_float16_stay_finite(tmp_path):
    logits = np.array([[1e6, -1e6, 0.0]], np.float32)
    given = RUN, "val", "data", np.arange(1), np.array([1]), logits, np.array([0])
    found = predictions.parse(place(tmp_path), predictions.serialize(*given, "full")).columns
    assert np.isfinite(found["logits"]).all()
    assert found["label_log_probability"][0] == -2e6
    assert found["predicted_log_probability"][0] == 0


def test_no_images_are_no_rows(tmp_path):
    found = read(tmp_path, images=0)
    assert found.columns["logits"].shape == (0, 7)


def test_pandas_reads_a_file_in_one_line(tmp_path):
    pandas = pytest.importorskip("pandas")
    predictions.publish(tmp_path, RUN, {"val": content()})
    frame = pandas.read_parquet(place(tmp_path))
    assert list(frame.columns)[:3] == ["image", "label", "predicted"]
    assert frame["logits"][0].shape == (7,)
    assert frame["logits"][0].dtype == np.float16


def test_the_default_keeps_all_logits_of_up_to_two_million():
    assert predictions.form(None, 5000, 10) == "full"
    assert predictions.form(None, 20_000, 100) == "full"
    assert predictions.form(None, 20_001, 100) == "top"
    assert predictions.form("none", 10, 10) == "none"
    assert predictions.form("full", 10**6, 1000) == "full"


@pytest.mark.parametrize(("images", "classes"), [(400, 10), (5000, 10), (5000, 1000)])
def test_the_estimate_of_disk_space_is_near(images, classes):
    stated = predictions.bytes_per_run(None, {"val": images, "test": images}, classes)
    kept = predictions.form(None, images, classes)
    real = 4 * len(content(kept, images=images, classes=classes))
    assert 0.7 * real < stated < 1.4 * real
    assert predictions.bytes_per_run("none", {"val": images, "test": images}, classes) == 0


def test_some_columns_are_read_alone(tmp_path):
    assert set(read(tmp_path, names=["predicted"]).columns) == {"predicted"}
    with pytest.raises(UserError, match="has no column logits; it has image, label"):
        read(tmp_path, "top", names=["logits"])


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path):
    whole = content(images=12)
    expected = predictions.parse(place(tmp_path), whole).columns
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        try:
            found = predictions.parse(place(tmp_path), bytes(damaged))
        except UserError:
            continue
        for name, column in expected.items():
            np.testing.assert_array_equal(found.columns[name], column)


def test_files_of_something_else_are_refused(tmp_path):
    for path in (place(tmp_path, "test"), place(tmp_path).with_name("other.parquet")):
        with pytest.raises(UserError, match="another run or split; move it away"):
            predictions.parse(path, content())
    with pytest.raises(UserError, match="is damaged"):
        predictions.parse(place(tmp_path), b"")
    pq.write_table(pq.read_table(_written(tmp_path)).replace_schema_metadata(), tmp_path / "plain")
    with pytest.raises(UserError, match="does not hold predictions of this program"):
        predictions.parse(place(tmp_path), (tmp_path / "plain").read_bytes())


def _written(tmp_path):
    predictions.publish(tmp_path, RUN, {"val": content()})
    return place(tmp_path)


def test_a_standing_file_is_never_replaced(tmp_path):
    path = _written(tmp_path)
    before = path.read_bytes()
    predictions.publish(tmp_path, RUN, {"val": content("top"), "test": content("top", "test")})
    assert path.read_bytes() == before
    assert place(tmp_path, "test").exists()


def test_the_memory_of_a_million_images_is_bounded(tmp_path):
    images, classes = 1_000_000, 20
    logits = np.broadcast_to(np.arange(classes, dtype=np.float32), (images, classes))
    given = np.arange(images), np.zeros(images, np.int64), logits, np.full(images, classes - 1)
    tracemalloc.start()
    whole = predictions.serialize(RUN, "val", "data", *given, "top")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400e6
    found = predictions.parse(place(tmp_path), whole, ["predicted"]).columns["predicted"]
    assert (len(found), set(found.tolist())) == (images, {classes - 1})
