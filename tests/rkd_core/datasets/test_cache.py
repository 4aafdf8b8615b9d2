"""The cache: hits, damage, changes, concurrent processes and folders that cannot be written."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rkd_core import datasets
from rkd_core.datasets import cache
from rkd_core.datasets.preparation import decode_source, prepare
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from tests.rkd_core.datasets.on_disk import image_folder, parquet_folder, settle


@pytest.fixture(name="root")
def source(tmp_path):
    parquet_folder(tmp_path / "a")
    return tmp_path / "a"


@pytest.fixture(name="decodings")
def counter(monkeypatch):
    """Count how often a source is decoded."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return decode_source.decode_source(*arguments)

    monkeypatch.setattr(prepare, "decode_source", counted)
    return calls


def load(root, **keywords):
    options = DataOptions(**keywords.pop("options", {}))
    return datasets.load(str(root), options, cache_dir=root.parent / "cache", **keywords)


def entry(root):
    (folder,) = (root.parent / "cache" / "entries").iterdir()
    return folder


def same(first, second):
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.images, second.test.images)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    assert first.fingerprint == second.fingerprint
    assert first.class_names == second.class_names


def test_the_second_load_is_memory_mapped(root, decodings):
    first, second = load(root), load(root)
    assert len(decodings) == 1
    same(first, second)
    assert isinstance(second.train.images.base, np.memmap)


def test_mapped_images_are_read_only_and_pickle_out_of_band(root):
    """Check that workers on a machine share one copy in Ray's object store."""
    images = load(root).train.images
    assert not images.flags.writeable
    buffers = []
    inline = pickle.dumps(images, protocol=5, buffer_callback=buffers.append)
    assert [len(buffer.raw()) for buffer in buffers] == [images.nbytes]
    assert len(inline) < 1000


def test_other_options_get_other_entries(root, decodings):
    load(root)
    load(root, options={"image_size": 4})
    load(root, options={"image_size": 4, "imbalance": 2, "split_seed": 5, "limit_train": 5})
    assert len(decodings) == 2


def test_a_changed_source_is_read_again(root, decodings):
    first = load(root)
    parquet_folder(root, size=9)
    assert load(root).image_size == (9, 9)
    assert load(root).fingerprint != first.fingerprint
    assert len(decodings) == 2


def test_a_source_that_may_still_change_is_not_relied_on(root, decodings):
    now = time.time()
    os.utime(root / "train.parquet", (now, now))
    load(root)
    load(root)
    assert len(decodings) == 2


def test_a_copy_elsewhere_shares_the_entry(root):
    parquet_folder(root.parent / "b")
    assert load(root).fingerprint == load(root.parent / "b").fingerprint
    entry(root)  # there is exactly one


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"0")


def empty(path):
    path.write_bytes(b"")


def garble(path):
    path.write_bytes(b"{" * path.stat().st_size)


def flip_last_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("train.npy", cut),
        ("train.npy", lengthen),
        ("test.npy", garble),
        ("train.npy", empty),
        ("train_labels.npy", empty),
        ("train_labels.npy", cut),
        ("test_labels.npy", flip_last_byte),
        ("meta.json", garble),
        ("meta.json", cut),
        ("train.npy", Path.unlink),
        ("meta.json", Path.unlink),
    ],
)
def test_a_damaged_entry_is_rebuilt(root, decodings, name, damage):
    first = load(root)
    damage(entry(root) / name)
    second = load(root)
    assert len(decodings) == 2
    same(datasets.load(str(root), DataOptions(), cache_dir=root.parent / "other"), second)
    assert first.fingerprint == second.fingerprint
    load(root)
    assert len(decodings) == 3  # two here, one for the other cache


@pytest.mark.parametrize("name", ["train.bin", "train.offsets.npy"])
def test_a_damaged_packed_entry_is_rebuilt(root, name):
    load(root, decode_limit=0)
    cut(entry(root) / name)
    again = load(root, decode_limit=0)
    assert again.train.evaluation_view(11).shape == (224, 224, 3)


def test_entries_of_another_format_are_not_read(root, decodings):
    load(root)
    path = entry(root) / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    load(root)
    assert len(decodings) == 2


CHILD = """
import sys
from pathlib import Path
from rkd_core import datasets
from rkd_core.datasets.preparation import decode_source, prepare
from rkd_core.specs import DataOptions

def announced(*arguments):
    print("decoding")
    return decode_source.decode_source(*arguments)

prepare.decode_source = announced
dataset = datasets.load(sys.argv[1], DataOptions(), cache_dir=Path(sys.argv[2]))
print(dataset.fingerprint, int(dataset.train.images.astype(int).sum()))
"""


def test_two_processes_decode_once(tmp_path):
    parquet_folder(tmp_path / "a", train=600, size=64)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "a"), str(tmp_path / "cache")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [child.communicate(timeout=600)[0].split("\n") for child in children]
    assert [child.returncode for child in children] == [0, 0]
    lines = sorted(line for output in outputs for line in output if line)
    assert lines.count("decoding") == 1
    assert lines[0] == lines[1]
    assert [path.name for path in (tmp_path / "cache/entries").glob(".*")] == []


@pytest.mark.parametrize("layout", [parquet_folder, image_folder])
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, layout, caplog):
    layout(tmp_path / "a")
    (tmp_path / "file").write_text("in the way")
    expected = load(tmp_path / "a")
    caplog.clear()
    dataset = datasets.load(str(tmp_path / "a"), DataOptions(), cache_dir=tmp_path / "file" / "c")
    same(dataset, expected)
    assert "cannot be used" in caplog.text


def test_a_full_disk_is_no_crash(root, monkeypatch, caplog):
    class Full(prepare.FileSink):
        def append(self, images):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare, "FileSink", Full)
    assert len(load(root).train) == 12
    assert "No space left" in caplog.text
    assert list((root.parent / "cache" / "entries").iterdir()) == []


def test_streaming_from_parquet_needs_the_cache(tmp_path, root):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="needs a writable cache folder"):
        datasets.load(str(root), DataOptions(), cache_dir=tmp_path / "file" / "c", decode_limit=0)


def test_streaming_files_needs_no_cache(tmp_path):
    image_folder(tmp_path / "a")
    (tmp_path / "file").write_text("in the way")
    unwritable = tmp_path / "file" / "c"
    found = datasets.load(str(tmp_path / "a"), DataOptions(), cache_dir=unwritable, decode_limit=0)
    assert found.fingerprint == load(tmp_path / "a", decode_limit=0).fingerprint


def test_bad_input_is_not_cached(root):
    good = (root / "train.parquet").read_bytes()
    (root / "train.parquet").write_bytes(good[:100])
    with pytest.raises(UserError):
        load(root)
    (root / "train.parquet").write_bytes(good)
    settle(root)
    assert len(load(root).train) == 12


@pytest.mark.parametrize("name", ["data_dir", "$RKD_DATA_DIR", "$RKD_CACHE_DIR", "dataset"])
def test_the_home_of_an_unknown_user(tmp_path, monkeypatch, name):
    path = "~no-such-user/x"
    if name.startswith("$"):
        monkeypatch.setenv(name[1:], path)
    with pytest.raises(UserError, match=r"the home folder of ~no-such-user is not known"):
        datasets.load(
            path if name == "dataset" else "cifar10",
            DataOptions(),
            data_dir=Path(path) if name == "data_dir" else None,
            cache_dir=None if name == "$RKD_CACHE_DIR" else tmp_path / "cache",
            download=False,
        )


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("RKD_CACHE_DIR", str(tmp_path / "chosen"))
    assert cache.default_folder() == tmp_path / "chosen"
    monkeypatch.delenv("RKD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "rkd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / ".cache" / "rkd"


def test_importing_is_light():
    code = (
        "import sys, rkd_core.datasets; "
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'PIL') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
