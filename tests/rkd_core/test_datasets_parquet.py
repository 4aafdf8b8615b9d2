"""Hugging Face style image Parquet: layouts, columns, fingerprints, bad input."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rkd_core import datasets
from rkd_core.datasets import parquet
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets_on_disk import (
    NAMES,
    cycling_labels,
    encode,
    make_unreadable,
    parquet_folder,
    random_images,
    write_parquet,
)


@pytest.fixture(name="load")
def loader(tmp_path):
    def load(path, options=None, **keywords):
        cache = tmp_path / "cache"
        return datasets.load(str(path), options or DataOptions(), cache_dir=cache, **keywords)

    return load


def check_train(dataset, pixels, labels):
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert dataset.train.labels.tolist() == labels


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


def grey_folder(root, train, test=None):
    for split, images in (("train", train), ("test", train if test is None else test)):
        encoded = [image if isinstance(image, bytes) else encode(image) for image in images]
        write_parquet(root / f"{split}.parquet", encoded, cycling_labels(len(images)))


def test_grey_images_have_one_channel(tmp_path, load):
    images = random_images(6, channels=1)
    grey_folder(tmp_path / "a", images)
    dataset = load(tmp_path / "a")
    np.testing.assert_array_equal(dataset.train.images, images[..., None])
    assert dataset.channels == 1


@pytest.mark.parametrize("where", ["train", "test"])
def test_one_color_image_makes_the_source_color(tmp_path, load, where):
    grey, color = random_images(6, channels=1), random_images(6)
    mixed = [*grey[:5], color[5]]
    if where == "train":
        grey_folder(tmp_path / "a", mixed, list(grey))
        expected = [*np.stack([grey[:5]] * 3, axis=-1), color[5]]
    else:
        grey_folder(tmp_path / "a", list(grey), mixed)
        expected = np.stack([grey] * 3, axis=-1)
    np.testing.assert_array_equal(load(tmp_path / "a").train.images, np.stack(expected))


def test_sixteen_bit_grey_is_scaled(tmp_path, load):
    deep = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    grey_folder(tmp_path / "a", [encode(deep)] * 3)
    dataset = load(tmp_path / "a")
    assert dataset.channels == 1
    np.testing.assert_array_equal(dataset.train.images[0, ..., 0], np.rint(deep / 257))


def test_palette_and_alpha_become_rgb(tmp_path, load):
    rgb = Image.fromarray(random_images(1)[0])
    variants = []
    for mode, options in (("P", {"transparency": b"\x00\x80"}), ("RGBA", {}), ("RGB", {})):
        buffer = io.BytesIO()
        rgb.convert(mode).save(buffer, "PNG", **options)
        variants.append(buffer.getvalue())
    grey_folder(tmp_path / "a", variants)
    train = load(tmp_path / "a").train
    assert train.shape == (8, 8, 3)
    np.testing.assert_array_equal(train.images[1], np.asarray(rgb))
    np.testing.assert_array_equal(train.images[2], np.asarray(rgb))


def test_null_bytes_are_read_from_the_path(tmp_path, load):
    images = random_images(6)
    root = tmp_path / "a"
    (root / "files").mkdir(parents=True)
    (root / "files" / "0.png").write_bytes(encode(images[0]))
    encoded = [None, *(encode(image) for image in images[1:])]
    paths = ["files/0.png"] + [None] * 5
    write_parquet(root / "train.parquet", encoded, cycling_labels(6), paths=paths)
    write_parquet(root / "test.parquet", encoded, cycling_labels(6), paths=paths)
    check_train(load(root), images, cycling_labels(6))


def test_a_path_out_of_the_folder_is_refused(tmp_path, load):
    (tmp_path / "secret.png").write_bytes(encode(random_images(1)[0]))
    parquet_folder(tmp_path / "a")
    encoded, paths = [None] * 3, ["../secret.png"] * 3
    write_parquet(tmp_path / "a" / "train.parquet", encoded, cycling_labels(3), paths=paths)
    with pytest.raises(UserError, match="leads out of"):
        load(tmp_path / "a")


def test_images_that_differ_in_size_need_an_image_size(tmp_path, load):
    images = [random_images(1, size)[0] for size in (8, 8, 12)]
    grey_folder(tmp_path / "a", images)
    with pytest.raises(UserError, match=r"row 0 is 8 x 8, .*row 2 is 12 x 12; pass --image-size"):
        load(tmp_path / "a")
    dataset = load(tmp_path / "a", DataOptions(image_size=8))
    np.testing.assert_array_equal(dataset.train.images[:2], np.stack(images[:2]))  # untouched
    shrunk = Image.fromarray(images[2]).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train.images[2], np.asarray(shrunk))


def test_resizing_keeps_the_middle_of_the_longer_side(tmp_path, load):
    stripes = np.zeros((8, 24, 3), np.uint8)
    stripes[:, 8:16] = 200
    tall = stripes.transpose(1, 0, 2).copy()
    grey_folder(tmp_path / "a", [stripes, tall, stripes])
    dataset = load(tmp_path / "a", DataOptions(image_size=8))
    np.testing.assert_array_equal(dataset.train.images, np.full((3, 8, 8, 3), 200))


def test_images_that_cannot_be_decoded(tmp_path, load, caplog):
    images = random_images(9, 32)
    encoded = [encode(image) for image in images]
    encoded[4] = b"not an image"
    encoded[8] = encoded[8][: len(encoded[8]) // 2]
    for split in ("train", "test"):
        write_parquet(tmp_path / "a" / f"{split}.parquet", encoded, cycling_labels(9))
    with pytest.raises(UserError, match=r"train\.parquet row 4 cannot be decoded.*skip-bad"):
        load(tmp_path / "a")
    dataset = load(tmp_path / "a", skip_bad_images=True)
    good = [0, 1, 2, 3, 5, 6, 7]
    check_train(dataset, images[good], [i % 3 for i in good])
    assert dataset.train_indices.tolist() == good
    assert sorted([*dataset.val_indices, *dataset.test_indices]) == good
    assert dataset.skipped_images == 4
    assert "4 undecodable images skipped" in caplog.text
    again = load(tmp_path / "a", skip_bad_images=True)
    assert (again.skipped_images, again.train_indices.tolist()) == (4, good)


def test_skipped_rows_are_part_of_the_fingerprint(tmp_path, load):
    parquet_folder(tmp_path / "a")
    plain = load(tmp_path / "a").fingerprint
    assert load(tmp_path / "a", skip_bad_images=True).fingerprint == plain
    seen = {plain}
    for bad in (0, 3):
        encoded = [encode(image) for image in random_images(12)]
        encoded[bad] = b""
        write_parquet(tmp_path / f"b{bad}" / "train.parquet", encoded, cycling_labels(12))
        write_parquet(tmp_path / f"b{bad}" / "test.parquet", encoded, cycling_labels(12))
        seen.add(load(tmp_path / f"b{bad}", skip_bad_images=True).fingerprint)
    assert len(seen) == 3


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [63, 31])  # where Pillow only warns, and where it refuses
def test_a_decompression_bomb_is_a_bad_image(tmp_path, load, monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    parquet_folder(tmp_path / "a")
    with pytest.raises(UserError, match="row 0 cannot be decoded"):
        load(tmp_path / "a")


def test_a_class_that_skipping_leaves_empty(tmp_path, load):
    encoded = [encode(image) for image in random_images(6)]
    bad = [b"" if i % 3 == 1 else image for i, image in enumerate(encoded)]
    write_parquet(tmp_path / "a" / "train.parquet", bad, cycling_labels(6))
    write_parquet(tmp_path / "a" / "test.parquet", encoded, cycling_labels(6))
    with pytest.raises(UserError, match=r"class 1 \(dog\) has no training image"):
        load(tmp_path / "a", skip_bad_images=True)


@pytest.mark.parametrize(
    ("labels", "kind", "options", "message"),
    [
        ([0, 2, 2], None, {"metadata": False}, "class 1 .* no training image"),
        ([0, 1, 1], None, {}, r"class 2 \(owl\) has no training image"),
        ([0, -1, 1], None, {"metadata": False}, "label -1 in the training split"),
        ([0, 1, 3], None, {}, "label 3 in the training split"),
        ([0, None, 1], pa.int64(), {}, "1 label in 'label' is null"),
        ([0.0, 1.0, 2.0], None, {}, "must be integers, not double"),
        (["a", "b", "c"], None, {}, "must be integers, not string"),
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


def test_color_and_size_are_judged_by_the_whole_set(tmp_path, load):
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
    images = parquet.read(root, ("test",)).train.images
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
    with pytest.raises(UserError, match=r"no test split: add test\.parquet or valid\.parquet"):
        load(tmp_path / "c")
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
    with pytest.raises(UserError, match="--limit-train 2"):
        load(tmp_path / "a", DataOptions(limit_train=2))
