"""Hugging Face style image Parquet: layouts, columns, fingerprints, bad input."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rkd_core.datasets.readers import parquet
from rkd_core.datasets.readers.parquet_columns import ANY
from rkd_core.datasets.readers.split_names import OWN
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    NAMES,
    check_train,
    cycling_labels,
    encode,
    make_unreadable,
    parquet_folder,
    random_images,
    write_parquet,
)


def test_pixels_labels_and_names(tmp_path, load):
    pixels = parquet_folder(tmp_path / "birds")
    dataset = load(tmp_path / "birds")
    check_train(dataset, pixels, cycling_labels(12))
    assert dataset.name == "birds"
    assert dataset.class_names == NAMES
    assert (dataset.channels, dataset.image_size) == (3, (8, 8))
    assert (len(dataset.val), len(dataset.test)) == (4, 5)
    assert dataset.skipped_images == 0


def test_odd_column_names_come_from_the_metadata(tmp_path, load):
    pixels = parquet_folder(tmp_path / "a", image="photo", label="species")
    check_train(load(tmp_path / "a"), pixels, cycling_labels(12))


def test_any_column_of_bytes_will_do_without_metadata(tmp_path, load):
    pixels = parquet_folder(tmp_path / "a", image="X", label="labels", metadata=False)
    dataset = load(tmp_path / "a")
    check_train(dataset, pixels, cycling_labels(12))
    assert dataset.class_names == ("0", "1", "2")


def test_plain_binary_column(tmp_path, load):
    images = random_images(6)
    for split in ("train", "test"):
        table = pa.table({"png": [encode(i) for i in images], "label": cycling_labels(6)})
        (tmp_path / "a").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "a" / f"{split}.parquet")
    check_train(load(tmp_path / "a"), images, cycling_labels(6))


def test_fine_and_coarse_labels_as_cifar100_has_them(tmp_path, load):
    images = random_images(6)
    for split in ("train", "test"):
        path = tmp_path / "a" / f"{split}.parquet"
        write_parquet(path, [encode(i) for i in images], cycling_labels(6), label="fine_label")
        table = pq.read_table(path)
        features = json.loads(table.schema.metadata[b"huggingface"])
        features["info"]["features"]["coarse_label"] = {"names": ["x"], "_type": "ClassLabel"}
        table = table.append_column("coarse_label", pa.array([0] * 6))
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
        pq.write_table(table, path)
    dataset = load(tmp_path / "a")
    assert dataset.train.labels.tolist() == cycling_labels(6)
    assert dataset.class_names == NAMES


@pytest.mark.parametrize("test_name", ["test", "valid", "validation"])
def test_names_of_the_second_split(tmp_path, load, test_name):
    parquet_folder(tmp_path / "a", test_name=test_name)
    assert len(load(tmp_path / "a").test) == 5


@pytest.mark.parametrize("inner", ["plain_text", "data"])
def test_files_below_the_folder(tmp_path, load, inner):
    pixels = parquet_folder(tmp_path / "cifar10" / inner)
    dataset = load("cifar10", data_dir=tmp_path, download=False)
    check_train(dataset, pixels, cycling_labels(12))


def write_shards(root, pixels, parts, digest=""):
    """The training set of ``parquet_folder`` in shards, the test set as it is there."""
    labels = cycling_labels(len(pixels))
    for i, rows in enumerate(np.array_split(np.arange(len(pixels)), parts)):
        path = root / f"train-{i:05}-of-{parts:05}{digest}.parquet"
        write_parquet(path, [encode(pixels[r]) for r in rows], [labels[r] for r in rows])
    (root / "train.parquet").unlink()


def test_fingerprint_is_of_the_content_alone(tmp_path, load):
    pixels = parquet_folder(tmp_path / "a")
    parquet_folder(tmp_path / "deeper" / "b", test_name="valid")
    parquet_folder(tmp_path / "c", image="photo", label="species", compression="zstd")
    parquet_folder(tmp_path / "d", row_group_size=5, compression="none")
    parquet_folder(tmp_path / "e")
    write_shards(tmp_path / "e", pixels, 3)
    found = [load(tmp_path / name) for name in ("a", "deeper/b", "c", "d", "e")]
    assert len({dataset.fingerprint for dataset in found}) == 1
    for dataset in found:
        check_train(dataset, pixels, cycling_labels(12))


def test_shards_named_with_a_digest_of_their_content(tmp_path, load):
    pixels = parquet_folder(tmp_path / "a" / "data")
    write_shards(tmp_path / "a" / "data", pixels, 2, "-1359597a978bc4fa")
    check_train(load(tmp_path / "a"), pixels, cycling_labels(12))


def change_pixel(images, labels):
    images[3][0, 0, 0] ^= 1


def change_label(images, labels):
    labels[3] = 1


def change_order(images, labels):
    images[0], images[3] = images[3].copy(), images[0].copy()  # of the same class


@pytest.mark.parametrize("change", [change_pixel, change_label, change_order])
@pytest.mark.parametrize("split", ["train", "test"])
def test_fingerprint_changes_with_the_content(tmp_path, load, change, split):
    parquet_folder(tmp_path / "a")
    parquet_folder(tmp_path / "b")
    path = tmp_path / "b" / f"{split}.parquet"
    rows = pq.read_table(path).to_pylist()
    images = [np.array(Image.open(io.BytesIO(row["img"]["bytes"]))) for row in rows]
    labels = [row["label"] for row in rows]
    change(images, labels)
    write_parquet(path, [encode(pixels) for pixels in images], labels)
    assert load(tmp_path / "a").fingerprint != load(tmp_path / "b").fingerprint


def test_fingerprint_changes_with_the_class_names(tmp_path, load):
    parquet_folder(tmp_path / "a")
    parquet_folder(tmp_path / "b", names=("cat", "dog", "eagle"))
    assert load(tmp_path / "a").fingerprint != load(tmp_path / "b").fingerprint


@pytest.mark.parametrize(
    ("labels", "kind", "options", "message"),
    [
        ([0, 2, 2], None, {"metadata": False}, "class 1 .* no training image"),
        ([0, 1, 1], None, {}, r"class 2 \(owl\) has no training image"),
        ([0, -1, 1], None, {"metadata": False}, "label -1 in the training split"),
        ([0, 1, 3], None, {}, "label 3 in the training split"),
        ([0, None, 1], pa.int64(), {}, "1 label in 'label' is null"),
        ([0.0, 1.0, 2.0], None, {}, "must be integers or text, not double"),
        (["a", "b", "c"], None, {}, "label 'a' in 'label' is none of the classes cat, dog, owl"),
        ([0, 1, 10**12], None, {"metadata": False}, "label 1000000000000 among 3"),
        ([0, 1, 2**64 - 1], pa.uint64(), {}, "label 18446744073709551615 in 'label'"),
    ],
)
def test_bad_training_labels(tmp_path, load, labels, kind, options, message):
    parquet_folder(tmp_path / "a", **options)
    encoded = [encode(image) for image in random_images(3)]
    path = tmp_path / "a" / "train.parquet"
    write_parquet(path, encoded, labels, label_type=kind, **options)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_test_label_beyond_the_classes(tmp_path, load):
    parquet_folder(tmp_path / "a", metadata=False)
    encoded = [encode(image) for image in random_images(4)]
    write_parquet(tmp_path / "a" / "test.parquet", encoded, [0, 1, 2, 3], metadata=False)
    with pytest.raises(UserError, match=r"label 3 in the test split.* 3 classes"):
        load(tmp_path / "a")


def test_hidden_test_labels_give_way_to_another_split(tmp_path, load, caplog):
    caplog.set_level("INFO")
    root = tmp_path / "a"
    parquet_folder(root)
    encoded = [encode(image) for image in random_images(4)]
    write_parquet(root / "test.parquet", encoded, [-1] * 4)
    with pytest.raises(UserError, match=r"labels of test are hidden \(-1\): add valid\.parquet or"):
        load(root)
    write_parquet(root / "valid.parquet", encoded, [-1] * 4)
    write_parquet(root / "validation.parquet", encoded[:3], [0, 1, 2])
    dataset = load(root)
    assert len(dataset.val) + len(dataset.test) == 3
    assert "the original test set is its split validation" in caplog.text
    write_parquet(root / "test.parquet", encoded, [0, -1, 1, 2])
    with pytest.raises(UserError, match="label -1 in the test split"):
        load(root)


@pytest.mark.parametrize("names", [3, "cat", [1, 2, 3], {"0": "cat"}, None, [["cat"]]])
def test_metadata_without_a_list_of_names_is_ignored(tmp_path, load, names):
    parquet_folder(tmp_path / "a")
    for split in ("train", "test"):
        path = tmp_path / "a" / f"{split}.parquet"
        feature = {"label": {"names": names, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
        pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    assert load(tmp_path / "a").class_names == ("0", "1", "2")


def test_an_unreadable_folder_is_named(tmp_path, load, monkeypatch):
    parquet_folder(tmp_path / "a" / "data")
    make_unreadable(monkeypatch, tmp_path / "a" / "data")
    with pytest.raises(UserError, match=r"a/data cannot be read: Permission denied$"):
        load(tmp_path / "a")


def test_color_and_size_depend_on_the_whole_set(tmp_path, load):
    grey, color = random_images(300, channels=1), random_images(300)
    encoded = [encode(image) for image in (*grey, *color)]
    root = tmp_path / "a"
    for i in range(2):
        rows = slice(300 * i, 300 * i + 300)
        path = root / f"train-0000{i}-of-00002.parquet"
        write_parquet(path, encoded[rows], cycling_labels(300), row_group_size=70)
    write_parquet(root / "test.parquet", encoded[:3], cycling_labels(3))
    streamed = load(root, DataOptions(image_size=8), decode_limit=0)
    assert streamed.channels == 3
    images = parquet.read(root, OWN, ANY).train.images
    assert list(images) == encoded
    for count in (1, 2, 7, 256, 599, 600, 1000):
        rows = np.unique(np.linspace(0, 599, min(count, 600)).astype(int))
        assert images.sample(count) == [encoded[row] for row in rows]


def test_class_names_that_differ_between_splits(tmp_path, load):
    parquet_folder(tmp_path / "a")
    encoded = [encode(image) for image in random_images(3)]
    names = ("dog", "cat", "owl")
    write_parquet(tmp_path / "a" / "test.parquet", encoded, [0, 1, 2], names=names)
    with pytest.raises(UserError, match="class names of train and test differ"):
        load(tmp_path / "a")


def test_an_absent_class_in_a_test_split_is_only_a_warning(tmp_path, load, caplog):
    parquet_folder(tmp_path / "a")
    encoded = [encode(image) for image in random_images(4)]
    write_parquet(tmp_path / "a" / "test.parquet", encoded, [0, 1, 0, 1])
    assert load(tmp_path / "a").class_counts("test")[2] == 0
    assert "owl) has no image in test" in caplog.text


def test_missing_columns_are_named_with_what_is_there(tmp_path, load):
    root = tmp_path / "a"
    parquet_folder(root)
    good = pq.read_table(root / "train.parquet").replace_schema_metadata(None)
    pq.write_table(
        good.drop_columns("img").append_column("n", good["label"]), root / "train.parquet"
    )
    with pytest.raises(UserError, match=r"no image column .*; it has label, n"):
        load(root)
    pq.write_table(good.rename_columns(["img", "species"]), root / "train.parquet")
    with pytest.raises(UserError, match=r"no label column .*; it has img, species"):
        load(root)


def test_a_damaged_file_is_named(tmp_path, load):
    parquet_folder(tmp_path / "a")
    path = tmp_path / "a" / "test.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"test\.parquet cannot be read as Parquet") as caught:
        load(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_file_damaged_within_is_named(tmp_path, load):
    parquet_folder(tmp_path / "a", compression="snappy")
    path = tmp_path / "a" / "train.parquet"
    data = bytearray(path.read_bytes())
    data[4:600] = bytes(596)
    path.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"train\.parquet"):
        load(tmp_path / "a")


def test_missing_and_doubled_files(tmp_path, load):
    pixels = parquet_folder(tmp_path / "a")
    write_shards(tmp_path / "a", pixels, 3)
    (tmp_path / "a" / "train-00001-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="2 files for the 3 shards of train"):
        load(tmp_path / "a")
    pixels = parquet_folder(tmp_path / "b")
    write_parquet(tmp_path / "b" / "train-00000-of-00001.parquet", [encode(pixels[0])], [0])
    with pytest.raises(UserError, match=r"both train\.parquet and train-00000-of-00001"):
        load(tmp_path / "b")
    parquet_folder(tmp_path / "c")
    (tmp_path / "c" / "test.parquet").unlink()
    assert load(tmp_path / "c").origins == dict.fromkeys(("train", "val", "test"), "part of train")
    parquet_folder(tmp_path / "d")
    (tmp_path / "d" / "train.parquet").unlink()
    with pytest.raises(UserError, match="no training split"):
        load(tmp_path / "d")


def test_long_tail_and_limit_apply_to_any_source(tmp_path, load):
    parquet_folder(tmp_path / "a", train=60)
    tail = load(tmp_path / "a", DataOptions(imbalance=10))
    assert tail.class_counts("train").tolist() == [20, 6, 2]
    assert (
        load(tmp_path / "a", DataOptions(limit_train=6)).class_counts("train").tolist() == [2] * 3
    )
    with pytest.raises(UserError, match="leaves class 2 without images"):
        load(tmp_path / "a", DataOptions(imbalance=21))
    with pytest.raises(UserError, match="`limit_train` 2"):
        load(tmp_path / "a", DataOptions(limit_train=2))


@pytest.mark.parametrize("path", ["no\0file", 5, b"file"])
def test_a_path_that_is_none(tmp_path, load, path):
    parquet_folder(tmp_path / "a")
    image = pa.array(
        [{"bytes": None, "path": path}] * 3,
        pa.struct([("bytes", pa.binary()), ("path", pa.scalar(path).type)]),
    )
    table = pa.table({"img": image, "label": [0, 1, 2]})
    pq.write_table(table, tmp_path / "a" / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet row 0: .* is no path of a file in"):
        load(tmp_path / "a")


@pytest.mark.parametrize("column", ["img", "label"])
def test_a_column_that_is_there_twice(tmp_path, load, column):
    parquet_folder(tmp_path / "a")
    path = tmp_path / "a" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column(column, table[column]), path)
    with pytest.raises(UserError, match=rf"train\.parquet has 2 columns '{column}': keep one"):
        load(tmp_path / "a")


def test_columns_with_a_common_prefix(tmp_path, load):
    """Parquet takes ``label.x`` for a part of ``label``."""
    images = parquet_folder(tmp_path / "a", metadata=False)
    path = tmp_path / "a" / "train.parquet"
    table = pq.read_table(path)
    for number, name in enumerate(("label.x", "img.x")):
        table = table.add_column(number, name, pa.array([number] * 12))
    pq.write_table(table, path)
    check_train(load(tmp_path / "a"), images, cycling_labels(12))


def test_metadata_nested_too_deeply_is_ignored(tmp_path, load):
    images = parquet_folder(tmp_path / "a", metadata=False)
    path = tmp_path / "a" / "train.parquet"
    deep = {"huggingface": "[" * 10**5 + "]" * 10**5}
    pq.write_table(pq.read_table(path).replace_schema_metadata(deep), path)
    check_train(load(tmp_path / "a"), images, cycling_labels(12))


def test_a_name_of_a_column_that_is_no_text(tmp_path, load):
    parquet_folder(tmp_path / "a")
    path = tmp_path / "a" / "train.parquet"
    path.write_bytes(path.read_bytes().replace(b"label", b"\xe5abel"))
    with pytest.raises(UserError, match=r"train\.parquet cannot be read as Parquet: .*utf-8"):
        load(tmp_path / "a")


def test_bytes_within_bytes_are_no_images(tmp_path, load):
    parquet_folder(tmp_path / "a")
    path = tmp_path / "a" / "train.parquet"
    table = pa.table({"img": [{"bytes": {"bytes": b"x"}}] * 3, "label": [0, 1, 2]})
    pq.write_table(table, path)
    with pytest.raises(UserError, match=r"train\.parquet has no image column"):
        load(tmp_path / "a")
