"""Locations and layouts of data sets as users download them, and messages on anything else."""

import shutil

import pyarrow as pa
import pytest

from rkd_core.errors import UserError
from tests.rkd_core.datasets.on_disk import image_folder, parquet_folder


@pytest.fixture(name="home")
def working_folder(tmp_path, monkeypatch):
    image_folder(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("inner", ["pictures", "a/b/pictures"])
def test_a_data_set_in_a_nested_folder_is_found(home, load, inner):
    plain = load("pictures").fingerprint
    shutil.copytree(home / "pictures", home / "archive" / inner)
    (home / "archive" / "__MACOSX").mkdir()
    (home / "archive" / "README.txt").write_text("hello")
    assert load("archive").fingerprint == plain


def test_splits_in_other_spellings(home, load):
    plain = load("pictures").fingerprint
    (home / "pictures" / "train").rename(home / "pictures" / "Training")
    (home / "pictures" / "val").rename(home / "pictures" / "TEST")
    dataset = load("pictures")
    assert dataset.fingerprint == plain
    assert dataset.origins == {"train": "Training", "val": "half of TEST", "test": "half of TEST"}


@pytest.mark.parametrize("inner", ["data", "default", ""])
def test_snapshots_of_the_hub_are_searched(tmp_path, load, inner):
    """Snapshots hold links to files named by their digests."""
    parquet_folder(tmp_path / "plain")
    hub = tmp_path / "datasets--me--pets"
    for revision in ("0ld", "c0ffee"):
        folder = hub / "snapshots" / revision / inner
        folder.mkdir(parents=True)
        for split in ("train", "test"):
            blob = hub / "blobs" / f"{split}{revision}"
            blob.parent.mkdir(exist_ok=True)
            shutil.copy(tmp_path / "plain" / f"{split}.parquet", blob)
            (folder / f"{split}-00000-of-00001.parquet").symlink_to(blob)
    (hub / "snapshots" / "0ld" / inner / "test-00000-of-00001.parquet").unlink()
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("c0ffee")
    expected = load(tmp_path / "plain").fingerprint
    assert load(hub).fingerprint == expected
    assert load(hub / "snapshots" / "c0ffee").fingerprint == expected


def test_parquet_in_a_folder_of_each_split(tmp_path, load):
    parquet_folder(tmp_path / "plain")
    for split in ("train", "test"):
        (tmp_path / "a" / "default" / split).mkdir(parents=True)
        target = tmp_path / "a" / "default" / split / "0000.parquet"
        shutil.copy(tmp_path / "plain" / f"{split}.parquet", target)
    assert load(tmp_path / "a").fingerprint == load(tmp_path / "plain").fingerprint


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("./pictrues", r"pictrues does not exist: did you mean pictures\?"),
        ("Pictures/", r"Pictures does not exist: did you mean pictures\?"),
        ("{home}/pictrues", r"pictrues does not exist: did you mean .*/pictures\? .*or a folder"),
        ("{home}/nowhere/pictures", r"nowhere does not exist \(`name_or_path` takes a name"),
        ("pictures/tarin", r"pictures/tarin does not exist: did you mean pictures/train\?"),
        ("pictrues", r"unknown dataset 'pictrues': did you mean the folder pictures\?"),
        ("cifar01", r"unknown dataset 'cifar01': did you mean cifar10 "),
    ],
)
def test_missing_folders_are_reported_as_missing(home, load, given, message):
    with pytest.raises(UserError, match=message):
        load(given.format(home=home))


def touched(*names):
    def make(root):
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")

    return make


def arrow_files(root):
    for split in ("train", "test"):
        (root / split).mkdir()
        with pa.OSFile(str(root / split / "data-00000-of-00001.arrow"), "wb"):
            pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (touched("images/1.jpg", "labels.csv"), r"but labels\.csv: write `train_list` and `test_"),
        (touched("pets.zip"), r"but pets\.zip: unpack it"),
        (touched("all.parquet"), r"but all\.parquet: rename or split it into train\.parquet"),
        (touched("cat/1.jpg", "dog/1.jpg"), r"but folders of images \(cat, dog\): if these are"),
        (touched("train/1.jpg", "test/1.jpg"), r"train has no class folders: sort its images into"),
        (
            touched("seg_train/a/1.jpg", "seg_test/a/1.jpg"),
            r"\(it has seg_test, seg_train\): a",
        ),
        (arrow_files, "Arrow files of the datasets library"),
        (touched(".hidden", "Thumbs.db"), "is empty"),
    ],
)
def test_folders_without_a_data_set_get_advice(tmp_path, load, make, message):
    (tmp_path / "a").mkdir()
    make(tmp_path / "a")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "a")


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "7z"])
def test_archives_are_to_be_unpacked(tmp_path, load, ending):
    path = tmp_path / f"pets.{ending}"
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match="is an archive: unpack it, and give the folder"):
        load(path)


def test_special_files_are_not_reported_as_missing(load):
    with pytest.raises(UserError, match=r"^/dev/null is not a folder: a data set is a folder"):
        load("/dev/null")


def test_a_file_of_labels_is_no_data_set(tmp_path, load):
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(UserError, match=r"labels\.csv is a file: give the folder of the images"):
        load(tmp_path / "labels.csv")
