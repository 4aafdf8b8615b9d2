"""Float arrays from files: list columns of Parquet and of Hugging Face, and NumPy files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions

ROWS = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
LABELS = np.repeat([0, 1, 2], 8)


@pytest.fixture
def load(tmp_path):
    def call(folder, **options):
        return datasets.load(str(folder), DataOptions(), cache_dir=tmp_path / "cache", **options)

    return call


def write(root, column, splits=("train", "test"), more=None, name="embedding"):
    root.mkdir(parents=True, exist_ok=True)
    for split in splits:
        table = pa.table({name: column, "label": pa.array(LABELS), **(more or {})})
        pq.write_table(table, root / f"{split}.parquet", row_group_size=7)


def tensors():
    flat = pa.FixedSizeListArray.from_arrays(pa.array(ROWS.ravel()), 6)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2, 3]), flat)


COLUMNS = {
    "list": pa.array(ROWS.tolist(), pa.list_(pa.float32())),
    "doubles": pa.array(ROWS.tolist(), pa.list_(pa.float64())),
    "large": pa.array(ROWS.tolist(), pa.large_list(pa.float32())),
    "fixed": pa.array(ROWS.tolist(), pa.list_(pa.float32(), 6)),
    "nested": pa.array(ROWS.reshape(24, 2, 3).tolist(), pa.list_(pa.list_(pa.float32()))),
    "tensor": tensors(),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_lists(tmp_path, load, kind):
    write(tmp_path / "a", COLUMNS[kind], more={"id": pa.array(range(24))})
    found = load(tmp_path / "a")
    shaped = ROWS.reshape(24, 2, 3) if kind in ("nested", "tensor") else ROWS
    np.testing.assert_array_equal(found.train.values, shaped)
    assert found.train.labels.tolist() == LABELS.tolist()
    same = datasets.from_data((shaped, LABELS, shaped, LABELS), as_arrays=True)
    assert found.fingerprint == same.fingerprint
    assert found.inventory.files


def test_columns_of_lists_are_found_or_chosen(tmp_path, load):
    lists = COLUMNS["list"]
    write(tmp_path / "a", lists, name="vector")
    assert load(tmp_path / "a").train.input_shape == (6,)
    write(tmp_path / "b", lists, name="clip", more={"dino": COLUMNS["fixed"]})
    with pytest.raises(UserError, match="2 columns of lists of numbers, clip and dino"):
        load(tmp_path / "b")
    chosen = load(tmp_path / "b", columns=datasets.Columns(image="dino"))
    assert chosen.train.input_shape == (6,)
    with pytest.raises(UserError, match="'label' holds int64, not the bytes of images or lists"):
        load(tmp_path / "b", columns=datasets.Columns(image="label"))


def ragged(rows):
    rows[5] = rows[5][:4]


def a_null(rows):
    rows[3] = None


def a_null_value(rows):
    rows[3][2] = None


def not_finite(rows):
    rows[9][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (ragged, "'embedding': row 5 has 4 values, and row 0 has 6"),
        (a_null, "row or value 3 is null"),
        (a_null_value, "row or value 20 is null"),
        (not_finite, "row 9 has values that are not finite"),
    ],
)
def test_columns_of_lists_that_are_refused(tmp_path, load, change, message):
    rows = ROWS.tolist()
    change(rows)
    root = tmp_path / "a"
    root.mkdir()
    table = pa.table({"embedding": pa.array(rows, pa.list_(pa.float32())), "label": LABELS})
    for split in ("train", "test"):
        pq.write_table(table, root / f"{split}.parquet")
    with pytest.raises(UserError, match=message):
        load(root)


def test_splits_of_other_lengths_are_refused(tmp_path, load):
    write(tmp_path / "a", COLUMNS["list"], ("train",))
    write(tmp_path / "a", pa.array(ROWS[:, :4].tolist()), ("test",))
    with pytest.raises(UserError, match=r"rows for test are arrays of shape \(4,\)"):
        load(tmp_path / "a")


def test_lists_of_a_dataset_of_hugging_face(tmp_path, load):
    library = pytest.importorskip("datasets", reason="the datasets library is not installed")
    given = {"embedding": ROWS.tolist(), "label": [f"kind {label}" for label in LABELS]}
    one = library.Dataset.from_dict(given)
    both = library.DatasetDict({"train": one, "test": one})
    found = datasets.from_data(both)
    np.testing.assert_array_equal(found.train.values, ROWS)
    assert found.class_names == ("kind 0", "kind 1", "kind 2")
    both.save_to_disk(tmp_path / "saved")
    assert load(tmp_path / "saved").fingerprint == found.fingerprint


@pytest.mark.parametrize(
    ("inputs", "labels"),
    [
        ("{}", "{}_labels"),
        ("X_{}", "y_{}"),
        ("{}_embeddings", "{}_labels"),
    ],
)
@pytest.mark.parametrize("val", ["val", "validation"])
def test_folders_of_numpy_files(tmp_path, load, inputs, labels, val):
    for split, rows in (("train", ROWS), (val, ROWS[::-1]), ("test", ROWS + 1)):
        np.save(tmp_path / f"{inputs.format(split)}.npy", rows)
        np.save(tmp_path / f"{labels.format(split)}.npy", LABELS[:, None])
    np.save(tmp_path / "class_names.npy", np.array(["a", "b", "c"]))
    found = load(tmp_path)
    assert found.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(found.val.values, ROWS[::-1])
    np.testing.assert_array_equal(found.test.values, ROWS + 1)


def test_folders_of_numpy_files_of_images(tmp_path, load):
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", images)
        np.save(tmp_path / f"{split}_labels.npy", LABELS)
    assert load(tmp_path).train.input_shape == (3, 8, 8)


def test_labels_that_start_at_1_or_do_not_fit(tmp_path, load):
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", ROWS)
        np.save(tmp_path / f"{split}_labels.npy", LABELS + 1)
    with pytest.raises(UserError, match=r"class 0 .* has no training image.* start at 0, not 1"):
        load(tmp_path)
    np.save(tmp_path / "train_labels.npy", LABELS[:5])
    with pytest.raises(UserError, match=r"24 rows and labels of shape \(5,\); .* for each row"):
        load(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"damaged, of another format, or holds Python objects$"):
        load(tmp_path / "bad.npz")


def test_numpy_files_that_are_refused(tmp_path, load):
    np.save(tmp_path / "train.npy", ROWS)
    with pytest.raises(UserError, match="has train, but no labels for it: add train_labels"):
        load(tmp_path)
    np.save(tmp_path / "train_labels.npy", LABELS)
    np.save(tmp_path / "x_test.npy", ROWS)
    with pytest.raises(UserError, match="has x_test, but no labels for it: add y_test"):
        load(tmp_path)
    np.save(tmp_path / "y_test.npy", LABELS)
    load(tmp_path)
    np.save(tmp_path / "x_train.npy", ROWS)
    with pytest.raises(UserError, match="has x_train and train for train: keep one"):
        load(tmp_path)
    (tmp_path / "x_train.npy").unlink()
    np.save(tmp_path / "test_extra.npy", np.array([{}], dtype=object))
    with pytest.raises(
        UserError, match=r"test_extra.npy is not a NumPy file: .* holds Python objects"
    ):
        load(tmp_path)
