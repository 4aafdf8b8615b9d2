"""CIFAR in torchvision's layout: reading, refusing pickles that run code, finding, fetching."""

import os
import pickle
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from rkd_core import datasets
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import (
    cifar10_batches,
    cifar100_batches,
    cycling_labels,
    image_folder,
    make_unreadable,
    parquet_folder,
    settle,
)


@pytest.fixture(name="load")
def loader(tmp_path, monkeypatch):
    monkeypatch.delenv("RKD_DATA_DIR", raising=False)

    def load(name, options=None, **keywords):
        options = options or DataOptions()
        keywords = {"cache_dir": tmp_path / "cache", "download": False} | keywords
        return datasets.load(name, options, **keywords)

    return load


def test_cifar10_batches(tmp_path, load, caplog):
    pixels, labels = cifar10_batches(tmp_path)
    dataset = load("cifar10", data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert dataset.train.labels.tolist() == labels
    assert dataset.class_names == tuple(f"class {i}" for i in range(10))
    assert len(dataset.val) == len(dataset.test) == 5
    (warning,) = [record for record in caplog.records if record.name.endswith("cifar")]
    assert warning.levelname == "WARNING"
    assert "differs from the official files in data_batch_1, " in warning.getMessage()


def test_they_are_what_torchvision_reads(tmp_path, load, monkeypatch):
    torchvision = pytest.importorskip("torchvision.datasets")
    cifar10_batches(tmp_path)
    monkeypatch.setattr(torchvision.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.CIFAR10, "_load_meta", lambda self: None)
    theirs = torchvision.CIFAR10(str(tmp_path))
    ours = load("cifar10", data_dir=tmp_path).train
    np.testing.assert_array_equal(ours.images, theirs.data)
    assert ours.labels.tolist() == theirs.targets


def test_cifar100_batches_have_fine_labels(tmp_path, load):
    cifar100_batches(tmp_path)
    dataset = load("cifar100", data_dir=tmp_path)
    assert dataset.train.labels.tolist() == cycling_labels(200, 100)
    assert dataset.class_names[99] == "fine 99"


def test_a_batch_of_python_3_is_read_too(tmp_path, load):
    cifar10_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    data = np.zeros((10, 3072), np.uint8)
    for protocol, order in ((2, "C"), (2, "F"), (4, "C")):
        batch = {"data": np.asarray(data, order=order), "labels": cycling_labels(10, 10)}
        path.write_bytes(pickle.dumps(batch, protocol))
        assert load("cifar10", data_dir=tmp_path).val.images.max() == 0


class Runs:
    """A class whose unpickling would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_that_runs_code_is_refused(tmp_path, load):
    cifar10_batches(tmp_path)
    proof = tmp_path / "proof"
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps({"data": Runs(proof)}))
    with pytest.raises(UserError, match=r"data_batch_3 cannot be read.*mkdir, which is refused"):
        load("cifar10", data_dir=tmp_path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([1, 2]),
        pickle.dumps({"data": 1, "labels": []}),
        pickle.dumps({"data": "x"})[:-4],
        b"",
    ],
)
def test_damaged_batches_are_named(tmp_path, load, content):
    cifar10_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    with pytest.raises(UserError, match=r"test_batch .*CIFAR batch") as caught:
        load("cifar10", data_dir=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r" + (10**8).to_bytes(4, "little") + b".",
        b"\x80\x02cnumpy\nndarray\n(J\x00\xe1\xf5\x05X\x01\x00\x00\x00Otq\x00R.",
    ],
)
def test_a_batch_cannot_ask_for_more_memory_than_it_has(tmp_path, load, content):
    cifar10_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"test_batch .*CIFAR batch"):
        load("cifar10", data_dir=tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_labels_and_pixels_that_no_array_can_hold(tmp_path, load):
    cifar10_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    for data, labels in (
        (np.zeros((2, 3072), np.uint8), [0, 2**63]),
        (np.zeros((2, 3072), np.int64), [0, 1]),
        (np.full((2, 3072), None), [0, 1]),
    ):
        path.write_bytes(pickle.dumps({"data": data, "labels": labels}, 2))
        with pytest.raises(UserError, match=r"test_batch .*CIFAR batch"):
            load("cifar10", data_dir=tmp_path)


def test_a_damaged_batch_is_the_only_message(tmp_path, load, caplog):
    cifar10_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(b"")
    with pytest.raises(UserError):
        load("cifar10", data_dir=tmp_path)
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_an_unreadable_batch_is_no_problem_of_the_cache(tmp_path, load, monkeypatch, caplog, name):
    cifar10_batches(tmp_path)
    make_unreadable(monkeypatch, tmp_path / "cifar-10-batches-py" / name)
    with pytest.raises(UserError, match=rf"{name} cannot be read: Permission denied$"):
        load("cifar10", data_dir=tmp_path)
    assert "cache" not in caplog.text


def test_a_data_folder_that_is_the_datasets_own(tmp_path, load, monkeypatch):
    cifar10_batches(tmp_path)
    inner = tmp_path / "cifar-10-batches-py"
    assert len(load("cifar10", data_dir=inner).train) == 50
    monkeypatch.chdir(inner)
    monkeypatch.setenv("RKD_DATA_DIR", ".")
    assert len(load("cifar10").train) == 50
    with pytest.raises(UserError, match="cifar100 was not found"):
        load("cifar100")


def test_order_of_the_places(tmp_path, load, monkeypatch):
    for place, size in (("first", 8), ("second", 9), ("cache/datasets", 10)):
        parquet_folder(tmp_path / place / "cifar10", size=size)
    monkeypatch.setenv("RKD_DATA_DIR", str(tmp_path / "second"))
    sizes = [load("cifar10", data_dir=tmp_path / "first").image_size[0]]
    sizes.append(load("cifar10").image_size[0])
    monkeypatch.delenv("RKD_DATA_DIR")
    sizes.append(load("cifar10").image_size[0])
    assert sizes == [8, 9, 10]


def test_a_named_set_may_be_an_image_folder(tmp_path, load):
    image_folder(tmp_path / "cifar100")
    assert load("cifar100", data_dir=tmp_path).classes == 3


def test_imagenet_as_parquet_prefers_the_labelled_validation_split(tmp_path, load):
    parquet_folder(tmp_path / "imagenet", test=6, test_name="test")
    shutil.copy(tmp_path / "imagenet" / "train.parquet", tmp_path / "imagenet/validation.parquet")
    dataset = load("imagenet", data_dir=tmp_path)
    assert len(dataset.val) + len(dataset.test) == 12


@pytest.mark.parametrize("layout", [image_folder, parquet_folder])
@pytest.mark.parametrize("name", ["imagenet", "tiny-imagenet"])
def test_by_name_validation_is_halved_and_by_path_both_are_used(tmp_path, load, layout, name):
    """Use both layouts with the same cache."""
    root = tmp_path / name
    if layout is image_folder:
        image_folder(root, test=2, second="test")
        shutil.copytree(root / "train", root / "val")
    else:
        parquet_folder(root, test=6)
        shutil.copy(root / "train.parquet", root / "val.parquet")
    settle(root)
    for _ in range(2):
        by_name, by_path = load(name, data_dir=tmp_path), load(str(root))
        assert len(by_name.val) + len(by_name.test) == 12
        assert (len(by_path.val), len(by_path.test)) == (12, 6)


def test_a_missing_data_set_lists_the_searched_folders(tmp_path, load):
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError) as caught:
        load("cifar10", data_dir=tmp_path / "data")
    message = str(caught.value)
    assert str(tmp_path / "data" / "cifar-10-batches-py") in message
    assert str(tmp_path / "cache" / "datasets" / "cifar10") in message
    assert "downloading is off" in message
    assert "train.parquet" in message
    assert "\n" not in message
    with pytest.raises(UserError, match="imagenet was not found and cannot be downloaded"):
        load("imagenet", download=True)


def test_data_folders_that_do_not_exist(tmp_path, load, monkeypatch):
    with pytest.raises(UserError, match=r"`data_dir` .*gone is not a folder"):
        load("cifar10", data_dir=tmp_path / "gone")
    with pytest.raises(UserError, match="`data_dir`"):
        load("digits", data_dir=tmp_path / "gone")
    monkeypatch.setenv("RKD_DATA_DIR", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"\$RKD_DATA_DIR .*gone is not a folder"):
        load("cifar10")


def test_download_is_through_torchvision_and_only_once(tmp_path, load, monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    calls = []

    def fetch(root, download):
        assert download
        calls.append(root)
        cifar10_batches(Path(root))

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    for _ in range(2):
        assert len(load("cifar10", download=True).train) == 50
    assert len(calls) == 1
    assert [path.name for path in (tmp_path / "cache/datasets").iterdir()] == [
        "cifar-10-batches-py"
    ]


def test_a_failed_download_leaves_nothing_behind(tmp_path, load, monkeypatch):
    torchvision = pytest.importorskip("torchvision")

    def fetch(root, download):
        cifar10_batches(Path(root))
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fetch)
    with pytest.raises(UserError, match=r"cannot be downloaded to .* \(no route to host\): put it"):
        load("cifar10", download=True)
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []
