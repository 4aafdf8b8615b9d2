"""Image lists, as ImageNet-LT and iNaturalist 2018 are published."""

import os
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import NAMES, image_folder, settle

TRAIN = [
    ("train/owl/002.png", 2),
    ("train/cat/000.png", 0),
    ("train/dog/003.png", 1),
    ("train/cat/003.png", 0),
]
TEST = [("val/dog/000.png", 1), ("val/owl/001.png", 2), ("val/cat/002.png", 0)]


def write_list(path, entries):
    path.write_text("".join(f"{image} {label}\n" for image, label in entries))
    settle(path.parent)
    return path


@pytest.fixture(name="lists")
def two_lists_beside_a_folder(tmp_path):
    image_folder(tmp_path / "images")
    return {
        "train_list": write_list(tmp_path / "Birds_LT_train.txt", TRAIN),
        "test_list": write_list(tmp_path / "Birds_LT_test.txt", TEST),
    }


def images_of(root, entries):
    return np.stack([np.asarray(Image.open(root / image)) for image, _ in entries])


@pytest.mark.parametrize("options", [{}, {"decode_limit": 0}], ids=["decoded", "streamed"])
def test_the_lists_define_training_and_test_sets(tmp_path, load, lists, options):
    for _ in range(2):  # built, then found
        dataset = load(tmp_path / "images", DataOptions(image_size=8), **lists, **options)
        assert isinstance(dataset.train, StreamedImageSet) == bool(options)
        assert dataset.name == "Birds_LT"
        assert dataset.class_names == NAMES
        assert dataset.train.labels.tolist() == [2, 0, 1, 0]
        assert dataset.train_indices.tolist() == [0, 1, 2, 3]
        both = [*zip(dataset.val_indices, dataset.val.labels, strict=True)]
        both += zip(dataset.test_indices, dataset.test.labels, strict=True)
        assert sorted(both) == [(0, 1), (1, 2), (2, 0)]
    if not options:
        np.testing.assert_array_equal(dataset.train.images, images_of(tmp_path / "images", TRAIN))


def test_a_streamed_list_goes_to_a_worker(tmp_path, load, lists):
    train = load(tmp_path / "images", DataOptions(image_size=8), **lists, decode_limit=0).train
    there = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(there.evaluation_view(2), train.evaluation_view(2))


@pytest.mark.parametrize("options", [{}, {"decode_limit": 0}], ids=["decoded", "streamed"])
def test_the_fingerprint_covers_the_listed_images(tmp_path, load, lists, options):
    def fingerprint(folder="images"):
        return load(tmp_path / folder, **lists, **options).fingerprint

    first = fingerprint()
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    assert fingerprint("elsewhere") == first
    write_list(lists["train_list"], [*TRAIN, ("train/owl/000.png", 2)])
    longer = fingerprint("elsewhere")
    write_list(
        lists["train_list"],
        [*TRAIN[:2], ("train/dog/003.png", 2), *TRAIN[3:], ("train/dog/001.png", 1)],
    )
    relabelled = fingerprint("elsewhere")
    write_list(lists["train_list"], TRAIN)
    write_list(lists["test_list"], TEST[::-1])
    assert len({first, longer, relabelled, fingerprint("elsewhere")}) == 4
    write_list(lists["test_list"], TEST)
    assert fingerprint("elsewhere") == first


def test_the_cache_detects_changed_labels_of_equal_size(tmp_path, load, lists):
    """A list that is changed within its size is another list."""
    before = load(tmp_path / "images", **lists)
    write_list(lists["test_list"], [(image, 2 - label) for image, label in TEST])
    os.utime(lists["test_list"], (1_700_000_000, 1_700_000_000))
    after = load(tmp_path / "images", **lists)
    assert before.fingerprint != after.fingerprint
    label_of = dict(zip(after.val_indices, after.val.labels, strict=True))
    label_of |= dict(zip(after.test_indices, after.test.labels, strict=True))
    assert label_of == {0: 1, 1: 0, 2: 2}


def test_other_ways_to_write_a_line(tmp_path, load, lists):
    plain = load(tmp_path / "images", **lists)
    (tmp_path / "images/train/owl/002.png").rename(tmp_path / "images/train/owl/a b.png")
    text = (
        "\ufeff./train//owl/a b.png\t2\r\n\r\n"
        "train/cat/../cat/000.png   0 \r\n"
        "  train/dog/003.png 01\r\ntrain/cat/003.png 0"
    )
    lists["train_list"].write_bytes(text.encode())
    dataset = load(tmp_path / "images", **lists)
    assert dataset.fingerprint == plain.fingerprint
    np.testing.assert_array_equal(dataset.train.images, plain.train.images)


def test_paths_may_start_beside_the_training_list(tmp_path, load, lists):
    for path in lists.values():
        shutil.copy(path, tmp_path / "images")
    (tmp_path / "empty").mkdir()
    inside = {name: tmp_path / "images" / path.name for name, path in lists.items()}
    dataset = load(tmp_path / "empty", **inside)
    assert dataset.fingerprint == load(tmp_path / "images", **lists).fingerprint
    with pytest.raises(
        UserError, match=r"line 1: .*empty/train/owl/002\.png does not exist \(and 3"
    ):
        load(tmp_path / "empty", **lists)


def test_a_named_dataset_and_lists(tmp_path, load, lists):
    (tmp_path / "images").rename(tmp_path / "imagenet-1k")
    dataset = load("imagenet", data_dir=tmp_path, **lists)
    assert (dataset.name, dataset.class_names) == ("Birds_LT", NAMES)
    with pytest.raises(UserError, match=r"imagenet-lt is cut .* give `name_or_path` imagenet$"):
        load("imagenet-lt", data_dir=tmp_path, **lists)
    with pytest.raises(
        UserError, match=r"'tiny-imagenet' is not a folder.*looked for .*tiny-imagenet-200"
    ):
        load("tiny-imagenet", data_dir=tmp_path, **lists)
    for name in ("digits", "nowhere", ""):
        with pytest.raises(UserError, match=rf"^'{name}' is not a folder: with an image list"):
            load(name, **lists)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("ImageNet_LT_train", "ImageNet_LT"),
        ("iNaturalist18_train", "iNaturalist18"),
        ("train", "images"),
        ("_train", "images"),
        ("my-list", "my-list"),
    ],
)
def test_the_data_are_named_after_the_list(tmp_path, load, lists, stem, name):
    lists["train_list"] = lists["train_list"].rename(tmp_path / f"{stem}.txt")
    assert load(tmp_path / "images", **lists).name == name


def test_classes_are_named_after_folders_of_their_own(tmp_path, load, lists):
    def names(entries):
        write_list(lists["train_list"], entries)
        return load(tmp_path / "images", **lists).class_names

    swapped = [(image, (label + 1) % 3) for image, label in TRAIN]
    assert names(swapped) == ("owl", "cat", "dog")
    mixed = [*TRAIN, ("train/dog/000.png", 0)]
    assert names(mixed) == ("0", "1", "2")
    shared = [("train/cat/000.png", 0), ("train/cat/001.png", 1), ("train/dog/001.png", 2)]
    assert names(shared) == ("0", "1", "2")
    for name in NAMES:  # as TinyImageNet has it
        (tmp_path / "images/train" / name).rename(tmp_path / "images/train/images")
        (tmp_path / "images/train" / name).mkdir()
        (tmp_path / "images/train/images").rename(tmp_path / "images/train" / name / "images")
    assert names([(image.replace("/0", "/images/0"), label) for image, label in TRAIN]) == NAMES
    (tmp_path / "images/0.png").write_bytes(
        (tmp_path / "images/train/cat/images/000.png").read_bytes()
    )
    flat = [("0.png", 0), *[(f"train/{n}/images/001.png", 1 + i) for i, n in enumerate(NAMES[1:])]]
    assert names(flat) == ("0", "1", "2")


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ("train/cat/000.png 0\ntrain/dog/000.png\n", r"line 2: 'train/dog/000\.png' is not a path"),
        ("train/cat/000.png 0\n\n7\n", "line 3: '7' is not a path and a label, such as train/cat"),
        ("train/cat/000.png zero\n", "line 1: .* is not a path and a label"),
        ("train/cat/000.png -1\n", "line 1: .* is not a path and a label"),
        ("train/cat/000.png 1.0\n", "line 1: .* is not a path and a label"),
        ("train/cat/000.png 1234567890\n", "line 1: .* is not a path and a label"),
        ("train/cat/000.png ²\n", "line 1: .* is not a path and a label"),
        ("train/cat/\0.png 0\n", "line 1: .* is not a path and a label"),
        ("train/cat/000.png,0\n", "line 1: .* is not a path and a label"),
        ("a 0\n" + "x" * 5000 + "\n", r"line 2: 'x{80}' is not a path"),
        ("../images/train/cat/000.png 0\n", r"line 1: \.\./images/.* leads out of the folder"),
        ("train/../../x.png 0\n", r"line 1: \.\./x\.png leads out of the folder"),
        (".. 0\n", r"line 1: \.\. leads out of the folder"),
        ("/etc/passwd 0\n", "line 1: /etc/passwd leads out of the folder"),
        (
            "train/cat/000.png 0\ntrain/dog/000.png 1\ntrain//cat/000.png 0\n",
            r"line 3: train/cat/000\.png is on line 1 already",
        ),
        (
            "train/cat/000.png 0\nval/dog/000.png 1\n",
            r"test\.txt line 1: val/dog/.* is in .*train\.txt, too$",
        ),
        ("train/cat/000.png 0\ntrain/cat/009.png 1\n", r"line 2: .*cat/009\.png does not exist$"),
        ("train/cat/000.png/x 0\n", r"line 1: .*000\.png/x does not exist$"),
        ("train/cat 0\n", "line 1: .*train/cat is not a file$"),
        (f"{'x' * 300}.png 0\n", "line 1: .* cannot be read: File name too long$"),
        ("train/cat/000.png 1\ntrain/dog/000.png 2\n", "label 0 has no image, but label 2 has"),
        ("train/cat/000.png 0\ntrain/dog/000.png 999999999\n", "label 1 has no image, but label 9"),
        ("train/cat/000.png 0\n", r"test\.txt line 1: label 1 has no image in .*_train\.txt$"),
        ("", "_train.txt names no image"),
        ("\n \n", "_train.txt names no image"),
        (b"train/cat/000.png 0\n\xff 1\n", "line 2: it is not UTF-8"),
        ("train/cat/000.png 0\n".encode("utf-16"), "line 1: it is not UTF-8"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_bad_lists_are_one_line(tmp_path, load, lists, train, problem):
    lists["train_list"].write_bytes(train if isinstance(train, bytes) else train.encode())
    if "test" not in problem:
        write_list(lists["test_list"], TEST[2:])
    with pytest.raises(UserError, match=problem) as error:
        load(tmp_path / "images", **lists)
    assert "_LT_" in str(error.value)
    assert "\n" not in str(error.value)


def test_many_problems_are_counted(tmp_path, load, lists):
    write_list(lists["test_list"], [*TRAIN[:2], *TEST])
    with pytest.raises(
        UserError, match=r"test\.txt line 1: train/owl/002\.png is in .*_train\.txt, too \(and 1"
    ):
        load(tmp_path / "images", **lists)
    write_list(lists["test_list"], TEST)
    for name in ("cat", "dog"):
        shutil.rmtree(tmp_path / "images/val" / name)
    with pytest.raises(UserError, match=r"line 1: .*val/dog/000\.png does not exist \(and 1 more"):
        load(tmp_path / "images", **lists)


def test_both_lists_or_neither(tmp_path, load, lists):
    for name, path in lists.items():
        with pytest.raises(UserError, match="`train_list` and `test_list` go together"):
            load(tmp_path / "images", **{name: path})
    for path in (tmp_path / "nowhere.txt", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(
            UserError, match=r"(is not a file|does not exist): an image list|File name too long"
        ):
            load(tmp_path / "images", **(lists | {"test_list": path}))


def test_an_undecodable_listed_image_is_named_or_skipped(tmp_path, load, lists):
    (tmp_path / "images/train/cat/003.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"cat/003\.png cannot be decoded"):
        load(tmp_path / "images", **lists)
    for options in ({}, {"decode_limit": 0}):
        dataset = load(tmp_path / "images", skip_bad_images=True, **lists, **options)
        assert dataset.train_indices.tolist() == [0, 1, 2]


def test_long_lists_are_read_in_chunks(tmp_path, load, lists, monkeypatch):
    monkeypatch.setattr("rkd_core.datasets.readers.image_lists._CHUNK", 2)
    expected = load(tmp_path / "images", **lists)
    assert expected.train.labels.tolist() == [2, 0, 1, 0]
    lists["train_list"].write_text(lists["train_list"].read_text() + "train/x.png 0\n")
    with pytest.raises(UserError, match=r"line 5: .*train/x\.png does not exist$"):
        load(tmp_path / "images", **lists)


def test_the_profile_cuts_a_list_further(tmp_path, load, lists):
    everything = [(f"train/{n}/00{i}.png", c) for c, n in enumerate(NAMES) for i in range(4)]
    write_list(lists["train_list"], everything)
    dataset = load(tmp_path / "images", DataOptions(imbalance=4), **lists)
    assert dataset.class_counts("train").tolist() == [4, 2, 1]
