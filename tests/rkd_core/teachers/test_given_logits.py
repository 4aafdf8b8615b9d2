"""Logits of a teacher in a user's files: accepted forms, and every kind of bad input."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rkd_core.datasets import from_data, load
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from rkd_core.storage import files
from rkd_core.teachers import given_logits

DIGITS = load("digits-lt", DataOptions(imbalance=20))
ROWS = {"train": 1000, "test": 797}


def logits(rows, classes=10, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, classes))


@functools.cache
def labels_of(split):
    """Return the label of each row of an original split of the digits."""
    whole = load("digits", DataOptions())
    labels = np.empty(ROWS[split], np.int64)
    for part in ("train",) if split == "train" else ("val", "test"):
        labels[getattr(whole, f"{part}_indices")] = getattr(whole, part).labels
    return labels


def good(split):
    """Return logits that are right about every image."""
    return logits(ROWS[split]) + 9 * np.eye(10)[labels_of(split)]


@pytest.fixture(name="folder")
def folder_with_logits(tmp_path):
    for split in ROWS:
        np.save(tmp_path / f"{split}.npy", good(split))
    return tmp_path


def parquet(path, values, **columns):
    kind = pa.from_numpy_dtype(values.dtype)
    flat = pa.array(values.reshape(-1), kind)
    lists = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    pq.write_table(pa.table({"logits": lists, **columns}), path)


def refusal(folder, dataset=DIGITS):
    with pytest.raises(UserError) as caught:
        given_logits.read(folder, dataset)
    line = str(caught.value)
    assert "\n" not in line
    assert str(folder) in line
    return line.replace(f"{folder}/", "")


def test_rows_are_those_of_the_original_splits(folder):
    given = given_logits.read(folder, DIGITS)
    for part, split in (("train", "train"), ("val", "test"), ("test", "test")):
        rows = getattr(DIGITS, f"{part}_indices")
        table = given.tables[part]
        assert table.dtype == np.float32
        assert np.array_equal(table, good(split)[rows].astype(np.float32))
        assert np.array_equal(table.argmax(axis=1), getattr(DIGITS, part).labels)
    assert given.notes == ()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_every_float_type_is_read(folder, kind):
    for split in ROWS:
        np.save(folder / f"{split}.npy", good(split).astype(kind))
    table = given_logits.read(folder, DIGITS).tables["val"]
    assert np.array_equal(table, good("test")[DIGITS.val_indices].astype(kind).astype(np.float32))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_digest_is_that_of_the_logits_and_not_of_the_files(tmp_path, kind):
    arrays, keyed, other = tmp_path / "arrays", tmp_path / "keyed", tmp_path / "other"
    for folder in (arrays, keyed, other):
        folder.mkdir()
    for split in ROWS:
        np.save(arrays / f"{split}.npy", good(split).astype(kind))
        changed = good(split).astype(kind)
        changed[DIGITS.train_indices[0] if split == "train" else 0, 0] += 1
        np.save(other / f"{split}.npy", changed)
    for part, split in (("train", "train"), ("validation", "test"), ("test", "test")):
        rows = getattr(DIGITS, f"{part[:3] if part == 'validation' else part}_indices")[::-1]
        labels = labels_of(split)[rows]
        values = good(split)[rows].astype(kind)
        parquet(keyed / f"{part}.parquet", values, image=pa.array(rows), label=pa.array(labels))
    digests = [given_logits.read(f, DIGITS).digest for f in (arrays, keyed, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_training_set_alone_has_one_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (60, 4, 4, 1)).astype(np.uint8)
    dataset = from_data({"train": (images, np.arange(60) % 3)})
    np.save(tmp_path / "train.npy", logits(60, 3))
    given = given_logits.read(tmp_path, dataset)
    for part in ("train", "val", "test"):
        rows = getattr(dataset, f"{part}_indices")
        assert np.array_equal(given.tables[part], logits(60, 3)[rows].astype(np.float32))


def test_a_validation_set_of_the_data_has_a_file_of_its_own(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (30, 4, 4, 1)).astype(np.uint8)
    split = images, np.arange(30) % 3
    dataset = from_data({"train": split, "val": split, "test": split})
    for name in ("train", "test"):
        np.save(tmp_path / f"{name}.npy", logits(30, 3))
    line = refusal(tmp_path, dataset)
    assert "no logits of the validation set of data (30 images): give validation.parquet" in line
    np.save(tmp_path / "val.npy", logits(30, 3, seed=1))
    given = given_logits.read(tmp_path, dataset)
    assert np.array_equal(given.tables["val"], logits(30, 3, seed=1).astype(np.float32))


def test_missing_files_are_named(tmp_path):
    np.save(tmp_path / "train.npy", good("train"))
    assert refusal(tmp_path).endswith(
        "has no logits of the original test set of digits-lt (797 images): give test.parquet, "
        "test.npy, validation.parquet, validation.npy, val.parquet or val.npy"
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (
            logits(1001),
            "train.npy has 1001 rows, but the training set of digits-lt has 1000 images",
        ),
        (logits(1000, 9), "train.npy has 9 logits per image, but the data have 10 classes"),
        (logits(1000)[:, 0], "train.npy has the shape (1000,): give (images, classes)"),
        (np.zeros((1000, 10), int), "train.npy has int64: give float16, float32 or float64"),
        (np.zeros((1000, 10), "c8"), "train.npy has complex64: give float16, float32 or float64"),
        (np.full((1000, 10), None), "train.npy is not a .npy file of floats: "),
        (np.full((1000, 10), np.nan), "train.npy: image {first} has logits that are not finite"),
        (np.full((1000, 10), 1e300), "train.npy: image {first} has logits that are not finite"),
        (np.full((1000, 10), 0.1), "train.npy has probabilities: give logits, such as "),
    ],
)
def test_bad_arrays_are_refused(folder, values, line):
    np.save(folder / "train.npy", values)
    assert line.format(first=DIGITS.train_indices[0]) in refusal(folder)


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999999999999, 10)}\n"
HUGE = b"\x93NUMPY\1\0" + len(HEADER).to_bytes(2, "little") + HEADER


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"\x80\x04N.", b"\x93NUMPY\1\0v\0{}", HUGE])
def test_other_files_are_refused(folder, content):
    (folder / "train.npy").write_bytes(content)
    assert "train.npy is not a .npy file of floats" in refusal(folder)


def test_an_archive_is_refused(folder):
    with (folder / "train.npy").open("wb") as file:
        np.savez(file, a=good("train"))
    assert "train.npy is not a .npy file of floats" in refusal(folder)


KEYS = np.arange(1000)


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"image": KEYS[:-1]}, None),
        ({"image": np.r_[KEYS[:-1], 0]}, "image 0 has logits twice"),
        ({"image": KEYS + 1}, "there is no image 1000 in the training set of digits-lt, which has"),
        ({"image": KEYS - 1}, "there is no image -1 in the training set"),
        ({"image": KEYS.astype(float)}, "`image` must be integers"),
        ({"image": KEYS, "label": KEYS % 10}, "images or classes are in another order"),
    ],
)
def test_bad_keys_are_refused(folder, columns, line):
    (folder / "train.npy").unlink()
    count = len(columns["image"])
    given = {name: pa.array(values) for name, values in columns.items()}
    parquet(folder / "train.parquet", good("train")[:count], **given)
    if line is None:  # the last row of the source may be left out, but only if it is not used
        used = 999 in DIGITS.train_indices
        if used:
            assert "1 of 335 training images have no logits" in refusal(folder)
        else:
            given_logits.read(folder, DIGITS)
        return
    assert line in refusal(folder)


def test_images_without_logits_are_counted(folder):
    (folder / "train.npy").unlink()
    rows = DIGITS.train_indices[2:]
    parquet(folder / "train.parquet", good("train")[rows], image=pa.array(rows))
    first = DIGITS.train_indices[0]
    assert refusal(folder).endswith(
        "train.parquet: 2 of 335 training images have no logits, the first of them image "
        f"{first} of the training set"
    )


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"values": [1.0]}, "has no column `logits`"),
        ({"logits": [1.0]}, "`logits` is double: give a list of"),
        ({"logits": [["a"]]}, "`logits` is list<"),
        ({"logits": [[1.0, None]]}, "`logits` has missing values"),
        ({"logits": [[1.0], None]}, "`logits` has missing values"),
        ({"logits": [[1.0, 2.0], [1.0]]}, "`logits` has lists of 2 and 1 values"),
        ({"logits": pa.array([], pa.list_(pa.float32()))}, "has no rows"),
        ({"logits": [[1.0, 2.0]]}, "has 2 logits per image, but the data have 10 classes"),
    ],
)
def test_bad_tables_are_refused(folder, table, line):
    (folder / "train.npy").unlink()
    pq.write_table(pa.table(table), folder / "train.parquet")
    assert f"train.parquet{line if line[0] == ':' else ''}" in refusal(folder)
    assert line in refusal(folder)


def test_two_columns_of_one_name_are_refused(folder):
    (folder / "train.npy").unlink()
    columns = [pa.array([[1.0]]), pa.array([0]), pa.array([0])]
    table = pa.table(columns, names=["logits", "image", "image"])
    pq.write_table(table, folder / "train.parquet")
    assert refusal(folder) == "train.parquet has two columns `image`"


def test_a_damaged_parquet_file_is_refused(folder):
    (folder / "train.npy").unlink()
    (folder / "train.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    assert "train.parquet" in refusal(folder)


def test_two_files_without_keys_are_refused(folder):
    parquet(folder / "train.parquet", good("train"))
    assert "is one of several files of the training set" in refusal(folder)


def test_logits_that_are_no_better_than_chance_are_noted(folder):
    np.save(folder / "train.npy", logits(1000))
    (note,) = given_logits.read(folder, DIGITS).notes
    assert "images or classes may be in another order" in note


def test_kept_logits_are_repaired_and_read_again(folder, tmp_path):
    out = files.location(str(tmp_path / "out"))
    given = given_logits.read(folder, DIGITS)
    digest = given_logits.keep(out, given)
    assert digest == given.digest
    path = tmp_path / "out" / given_logits.FOLDER / digest / given_logits.FILE
    path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged"):
        given_logits.load(out, digest)
    given_logits.keep(out, given)
    kept = given_logits.load(out, digest)
    assert all(np.array_equal(kept[part].numpy(), given.tables[part]) for part in given.tables)


def test_images_that_are_left_out_keep_their_rows(tmp_path):
    for split, count in (("train", 6), ("test", 4)):
        for row in range(count):
            path = tmp_path / "images" / split / "ab"[row % 2] / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), 20 * row, np.uint8)).save(path)
    (tmp_path / "images" / "train" / "a" / "2.png").write_bytes(b"not an image")
    folder = tmp_path / "logits"
    folder.mkdir()
    values = {"train": logits(6, 2), "test": logits(4, 2)}
    values["train"][1] = np.nan  # a/0, a/2, a/4, b/1, ...
    for split, table in values.items():
        np.save(folder / f"{split}.npy", table)
    dataset = load(str(tmp_path / "images"), DataOptions(), skip_bad_images=True)
    table = given_logits.read(folder, dataset).tables["train"]
    assert np.array_equal(table, values["train"][[0, 2, 3, 4, 5]].astype(np.float32))
    np.save(folder / "train.npy", values["train"][:5])
    assert "train.npy has 5 rows, but the training set of images has 6 images" in refusal(
        folder, dataset
    )
