"""Splits of a user's data set: names, folders of classes, ignored files."""

import shutil

import numpy as np
import pytest
from PIL import Image

from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    NAMES,
    add_split,
    cycling_labels,
    encode,
    image_folder,
    parquet_folder,
    random_images,
    settle,
    three_splits,
    tiny_imagenet,
    write_parquet,
)


def sizes(dataset):
    return len(dataset.train), len(dataset.val), len(dataset.test)


def pixels_of(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*/*.png"))]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Validation"])
@pytest.mark.parametrize("limit", [{}, {"decode_limit": 0}])
def test_folders_of_all_three_splits_are_used_as_they_are(tmp_path, load, val, limit):
    three_splits(tmp_path / "a", val=val)
    for _ in range(2):  # built, then found in the cache
        dataset = load(tmp_path / "a", DataOptions(image_size=8), **limit)
        assert sizes(dataset) == (12, 6, 9)
        assert dataset.origins == {"train": "train", "val": val, "test": "test"}
        assert dataset.val_indices.tolist() == list(range(6))
        assert dataset.test_indices.tolist() == list(range(9))
    if not limit:
        np.testing.assert_array_equal(dataset.val.images, pixels_of(tmp_path / "a" / val))
        np.testing.assert_array_equal(dataset.test.images, pixels_of(tmp_path / "a" / "test"))


@pytest.mark.parametrize("shards", [False, True])
def test_parquet_of_all_three_splits_is_used_as_it_is(tmp_path, load, shards):
    parquet_folder(tmp_path / "a")
    images = random_images(4, seed=9)
    for i, rows in enumerate((slice(0, 2), slice(2, 4)) if shards else (slice(0, 4),)):
        name = f"validation-{i:05}-of-00002" if shards else "validation"
        path = tmp_path / "a" / f"{name}.parquet"
        write_parquet(path, [encode(i) for i in images[rows]], cycling_labels(4)[rows])
    for limit in ({}, {"decode_limit": 0}):
        dataset = load(tmp_path / "a", DataOptions(image_size=8), **limit)
        assert sizes(dataset) == (12, 4, 9)
        assert dataset.origins["val"] == "validation"
    np.testing.assert_array_equal(load(tmp_path / "a").val.images, images)


def test_lists_of_all_three_splits(tmp_path, load):
    three_splits(tmp_path / "a")
    lists = {}
    for split in ("train", "val", "test"):
        paths = sorted((tmp_path / "a" / split).glob("*/*.png"))
        lines = [
            f"{path.relative_to(tmp_path / 'a')} {NAMES.index(path.parent.name)}\n"
            for path in paths
        ]
        lists[f"{split}_list"] = tmp_path / f"{split}.txt"
        lists[f"{split}_list"].write_text("".join(lines))
    dataset = load(tmp_path / "a", **lists)
    assert sizes(dataset) == (12, 6, 9)
    assert dataset.fingerprint == load(tmp_path / "a").fingerprint
    assert dataset.origins["val"] == "val.txt"
    shutil.copy(lists["test_list"], lists["val_list"])
    with pytest.raises(UserError, match=r"test\.txt line 1: .* is in .*val\.txt, too"):
        load(tmp_path / "a", **lists)
    with pytest.raises(UserError, match="`val_list` goes with `train_list`"):
        load(tmp_path / "a", val_list=lists["val_list"])


def test_the_fingerprint_tells_three_splits_from_two(tmp_path, load):
    three_splits(tmp_path / "a")
    three_splits(tmp_path / "b")
    shutil.move(tmp_path / "b" / "val", tmp_path / "elsewhere")
    halved = load(tmp_path / "b")
    assert halved.origins == {"train": "train", "val": "half of test", "test": "half of test"}
    assert sizes(halved) == (12, 4, 5)
    whole = load(tmp_path / "a").fingerprint
    assert whole != halved.fingerprint
    assert load(tmp_path / "a", decode_limit=0).fingerprint not in (
        whole,
        load(tmp_path / "b", decode_limit=0).fingerprint,
    )
    path = tmp_path / "a" / "val" / "cat" / "000.png"
    path.write_bytes(encode(np.zeros((8, 8, 3), np.uint8)))
    assert load(tmp_path / "a").fingerprint != whole


def test_fingerprints_of_two_splits_are_those_of_before(tmp_path, load):
    image_folder(tmp_path / "a")
    parquet_folder(tmp_path / "b")
    found = [
        load(tmp_path / name, **limit).fingerprint[:12]
        for name in ("a", "b")
        for limit in ({}, {"decode_limit": 0})
    ]
    assert found == ["1a5f8c286178", "0c991079b17a", "ee1e98b3f1f9", "ee1e98b3f1f9"]


def test_options_that_only_halving_needs_are_refused_where_nothing_is_halved(tmp_path, load):
    three_splits(tmp_path / "a")
    for option, value in (("stratified", True), ("split_seed", 3)):
        with pytest.raises(UserError, match=f"`{option}` is for halving .*leave `{option}` out"):
            load(tmp_path / "a", DataOptions(**{option: value}))


def test_a_subset_of_the_classes_is_cut_from_all_three_splits(tmp_path, load):
    three_splits(tmp_path / "a")
    dataset = load(tmp_path / "a", DataOptions(classes=2))
    assert sizes(dataset) == (8, 4, 6)


def test_bad_images_are_skipped_in_each_of_three_splits(tmp_path, load):
    three_splits(tmp_path / "a")
    for split in ("train", "val", "test"):
        (tmp_path / "a" / split / "cat" / "001.png").write_bytes(b"no")
    dataset = load(tmp_path / "a", skip_bad_images=True)
    assert (sizes(dataset), dataset.skipped_images) == ((11, 5, 8), 3)
    assert dataset.val_indices.tolist() == [0, 2, 3, 4, 5]


def test_named_sets_are_halved_whatever_is_beside(tmp_path, load):
    three_splits(tmp_path / "imagenet")
    dataset = load("imagenet", data_dir=tmp_path)
    assert sizes(dataset) == (12, 3, 3)
    assert dataset.origins["test"] == "half of val"
    assert "not used: test" in dataset.provenance.remarks
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    folder = tmp_path / "tiny-imagenet-200" / "test" / "images"
    folder.mkdir(parents=True)
    shutil.copy(tmp_path / "imagenet/val/cat/000.png", folder)
    dataset = load("tiny-imagenet", data_dir=tmp_path)
    assert sizes(dataset) == (12, 3, 3)
    assert dataset.provenance.warnings == ()


def test_parquet_without_labels_gives_way(tmp_path, load):
    parquet_folder(tmp_path / "a", test_name="validation")
    encoded = [encode(image) for image in random_images(3)]
    write_parquet(tmp_path / "a" / "test.parquet", encoded, [None] * 3)
    dataset = load(tmp_path / "a")
    assert dataset.origins["test"] == "half of validation"
    assert dataset.provenance.remarks == ("not used: test",)


def test_extra_folders_beside_the_splits_are_reported(tmp_path, load):
    three_splits(tmp_path / "a")
    add_split(tmp_path / "a", "extra", 1)
    assert load(tmp_path / "a").provenance.remarks == ("not used: extra",)


def test_images_that_splits_share_are_counted(tmp_path, load, caplog):
    three_splits(tmp_path / "a")
    for number in range(2):
        shutil.copy(
            tmp_path / f"a/train/cat/00{number}.png", tmp_path / f"a/test/cat/00{number}.png"
        )
    for _ in range(2):
        caplog.clear()
        load(tmp_path / "a")
        assert "2 test images of 9 are in the training split, too" in caplog.text
    shutil.copy(tmp_path / "a/val/cat/000.png", tmp_path / "a/test/owl/000.png")
    load(tmp_path / "a")
    assert "1 test image of 9 is in the validation split, too" in caplog.text


# ---- Folders of the classes ---------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["{split}/images", "{split}/{split}", "{split}/a/b"])
def test_a_single_folder_between_split_and_classes_is_traversed(tmp_path, load, wrapper):
    image_folder(tmp_path / "plain", second="test")
    for split in ("train", "test"):
        target = tmp_path / "a" / wrapper.format(split=split)
        shutil.copytree(tmp_path / "plain" / split, target)
    dataset = load(tmp_path / "a")
    assert dataset.class_names == NAMES
    assert dataset.fingerprint == load(tmp_path / "plain").fingerprint
    assert "train: the classes are the folders in train/" in dataset.provenance.remarks[0]


def test_the_only_class_of_a_split_is_not_traversed(tmp_path, load):
    image_folder(tmp_path / "a", second="test")
    for name in ("dog", "owl"):
        shutil.rmtree(tmp_path / "a" / "test" / name)
    inner = tmp_path / "a" / "test" / "cat" / "dog"
    inner.mkdir()
    (tmp_path / "a" / "test" / "cat" / "000.png").rename(inner / "000.png")
    dataset = load(tmp_path / "a")
    assert (dataset.class_counts("val") + dataset.class_counts("test")).tolist() == [3, 0, 0]


def test_one_class_is_refused_with_what_is_below(tmp_path, load):
    image_folder(tmp_path / "a")
    for split in ("train", "val"):
        for name in ("dog", "owl"):
            shutil.rmtree(tmp_path / "a" / split / name)
    with pytest.raises(UserError, match=r"train has one class folder, cat; a classifier needs two"):
        load(tmp_path / "a")
    inner = tmp_path / "a" / "train" / "cat" / "images"
    inner.mkdir()
    (tmp_path / "a" / "train" / "cat" / "000.png").rename(inner / "000.png")
    with pytest.raises(UserError, match=r"cat, in which there are folders \(images\)"):
        load(tmp_path / "a")


def test_one_class_is_refused_in_parquet_and_lists(tmp_path, load):
    encoded = [encode(image) for image in random_images(4)]
    for split in ("train", "test"):
        write_parquet(tmp_path / "a" / f"{split}.parquet", encoded, [0] * 4, names=["cat"])
    with pytest.raises(UserError, match=r"there is one class \(cat\); a classifier needs two"):
        load(tmp_path / "a")
    image_folder(tmp_path / "b")
    (tmp_path / "train.txt").write_text("train/cat/000.png 0\n")
    (tmp_path / "test.txt").write_text("val/cat/000.png 0\nval/cat/001.png 0\n")
    lists = {f"{split}_list": tmp_path / f"{split}.txt" for split in ("train", "test")}
    with pytest.raises(UserError, match=r"there is one class \(cat\)"):
        load(tmp_path / "b", **lists)


def test_folders_inside_classes_are_reported(tmp_path, load):
    for split in ("train", "test"):
        for group, names in (("vehicles", ("car", "truck")), ("animals", ("cat", "dog"))):
            add_split(tmp_path / "a" / split, group, 2, names)
    dataset = load(tmp_path / "a")
    assert dataset.class_names == ("animals", "vehicles")
    assert dataset.provenance.remarks[0] == (
        "train: images in folders inside a class folder count as its class: animals (cat, dog), "
        "vehicles (car, truck)"
    )
    tiny_imagenet(tmp_path / "tiny-imagenet-200")  # one folder ``images`` in each class
    assert load("tiny-imagenet", data_dir=tmp_path).provenance.remarks == ()


# ---- Files that are read ------------------------------------------------------------------------

FORMATS = {".gif": "GIF", ".avif": "AVIF", ".jfif": "JPEG", ".jp2": "JPEG2000", ".JPG": "JPEG"}


@pytest.mark.parametrize("ending", FORMATS)
def test_images_that_pillow_reads_are_read(tmp_path, load, caplog, ending):
    image_folder(tmp_path / "a")
    gray = random_images(1, channels=1)[0]
    path = tmp_path / "a" / "train" / "cat" / f"more{ending}"
    path.write_bytes(encode(np.stack([gray] * 3, axis=-1), FORMATS[ending]))
    assert load(tmp_path / "a").class_counts("train").tolist() == [5, 4, 4]
    assert "not read" not in caplog.text


def test_unread_files_are_counted_by_ending(tmp_path, load, caplog):
    image_folder(tmp_path / "a")
    before = load(tmp_path / "a").fingerprint
    folder = tmp_path / "a" / "train" / "cat"
    for name in ("1.HEIC", "2.heic", "3.eps", "README"):
        (folder / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    (tmp_path / "a" / "train" / "loose.png").write_bytes(encode(random_images(1)[0]))
    for _ in range(2):
        caplog.clear()
        assert load(tmp_path / "a").fingerprint == before
        assert "train: not read: 2 .heic, 1 .eps, 1 file without an ending" in caplog.text
        assert "train: not read: 1 image outside of the class folders" in caplog.text
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"cat holds no file .*it holds 2 \.heic, 1 \.eps"):
        load(tmp_path / "a")


def test_a_format_that_this_pillow_lacks_is_not_read(tmp_path, load, caplog, monkeypatch):
    from PIL import features

    from rkd_core.datasets.readers import formats

    image_folder(tmp_path / "a")
    image = encode(random_images(1)[0], "AVIF")
    (tmp_path / "a" / "train" / "cat" / "more.avif").write_bytes(image)
    monkeypatch.setattr(features, "check", lambda feature: feature != "avif")
    formats.endings.cache_clear()
    try:
        load(tmp_path / "a")
    finally:
        formats.endings.cache_clear()
    assert "train: not read: 1 .avif" in caplog.text


@pytest.mark.parametrize(
    "name", ["@eaDir", ".thumbnails", "__MACOSX", "._x.png", ".hidden.png", "Thumbs.db"]
)
@pytest.mark.parametrize("where", ["", "train", "train/cat"])
def test_leftovers_of_file_servers_are_ignored(tmp_path, load, caplog, name, where):
    image_folder(tmp_path / "a")
    before = load(tmp_path / "a").fingerprint
    path = tmp_path / "a" / where / name
    if "." in name[1:]:
        path.write_bytes(b"no image")
    else:
        path.mkdir()
        (path / "SYNOPHOTO_THUMB_M.jpg").write_bytes(b"no image")
    dataset = load(tmp_path / "a")
    assert (dataset.class_names, dataset.fingerprint) == (NAMES, before)
    assert "not read" not in caplog.text
    settle(tmp_path / "a")


# ---- Names --------------------------------------------------------------------------------------


def latin1(path):
    """Return the path with an é that is not UTF-8."""
    return path.with_name(path.name + "\udce9")


@pytest.mark.parametrize("ending", ["\udce9", "\n", "\x1b[31m", "\u2028"])
def test_class_folders_that_tables_could_not_hold_are_refused_by_name(tmp_path, load, ending):
    image_folder(tmp_path / "a")
    for split in ("train", "val"):
        (tmp_path / "a" / split / "dog").rename(tmp_path / "a" / split / f"dog{ending}")
    with pytest.raises(UserError, match=r"the class name 'dog\\.* has bytes that are not UTF-8"):
        load(tmp_path / "a")


def test_a_data_folder_that_is_not_utf8_is_refused_by_name(tmp_path, load):
    image_folder(latin1(tmp_path / "caf"))
    with pytest.raises(UserError, match=r"`name_or_path`: the folder name 'caf\\xe9' has bytes"):
        load(latin1(tmp_path / "caf"))


@pytest.mark.parametrize("limit", [{}, {"decode_limit": 0}])
def test_files_that_are_not_utf8_are_read(tmp_path, load, limit):
    image_folder(tmp_path / "a")
    path = tmp_path / "a" / "train" / "cat" / "000.png"
    path.rename(path.with_name("\udce9.png"))
    dataset = load(tmp_path / "a", DataOptions(image_size=8), **limit)
    assert dataset.class_counts("train").tolist() == [4, 4, 4]


def test_class_names_of_parquet_that_are_no_unicode_are_refused(tmp_path, load):
    for name in ("dog\ud800", "dog\n"):
        parquet_folder(tmp_path / "a", names=("cat", name, "owl"))
        with pytest.raises(UserError, match=r"the class name 'dog\\.* has bytes"):
            load(tmp_path / "a")
