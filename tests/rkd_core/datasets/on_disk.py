"""Small datasets in every accepted layout, written to a folder."""

import io
import json
import os
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NAMES = ("cat", "dog", "owl")


def make_unreadable(monkeypatch, refused):
    """Make the operating system refuse a path, also for the superuser."""

    def guarded(function):
        def wrapper(path=".", *arguments, **keywords):
            if isinstance(path, str | os.PathLike) and os.fspath(path) == str(refused):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return function(path, *arguments, **keywords)

        return wrapper

    for module, name in ((os, "scandir"), (os, "listdir"), (io, "open")):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))


def encode(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def random_images(count, size=8, channels=3, seed=0):
    shape = (count, size, size, channels) if channels == 3 else (count, size, size)
    return np.random.RandomState(seed).randint(0, 256, shape).astype(np.uint8)


def cycling_labels(count, classes=3):
    return [i % classes for i in range(count)]


def settle(root):
    """Make files look old, so that the cache relies on their times."""
    for path in Path(root).rglob("*"):
        if path.is_file():
            os.utime(path, (1_600_000_000, 1_600_000_000))


def write_parquet(
    path,
    images,
    labels,
    *,
    image="img",
    label="label",
    names=NAMES,
    metadata=True,
    paths=None,
    label_type=None,
    **options,
):
    """Hugging Face style; ``images`` are encoded bytes or None."""
    paths = paths or [None] * len(images)
    struct = [{"bytes": b, "path": p} for b, p in zip(images, paths, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(struct, kind), label: pa.array(labels, label_type)})
    if metadata:
        features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def parquet_folder(root, *, train=12, test=9, size=8, test_name="test", **options):
    """Returns training pixels ``(n, size, size, 3)``."""
    images = random_images(train + test, size)
    encoded = [encode(pixels) for pixels in images]
    write_parquet(root / "train.parquet", encoded[:train], cycling_labels(train), **options)
    write_parquet(root / f"{test_name}.parquet", encoded[train:], cycling_labels(test), **options)
    settle(root)
    return images[:train]


def image_folder(root, *, train=4, test=3, sizes=((8, 8),), second="val"):
    """ImageFolder layout with ``NAMES`` as classes; sizes (width, height) are used in turn."""
    rng = np.random.RandomState(1)
    number = 0
    for split, per_class in (("train", train), (second, test)):
        for name in NAMES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(per_class):
                width, height = sizes[number % len(sizes)]
                number += 1
                pixels = rng.randint(0, 256, (height, width, 3)).astype(np.uint8)
                (folder / f"{i:03}.png").write_bytes(encode(pixels))
    settle(root)


def three_splits(root, *, val="val", val_images=2):
    """``image_folder`` with 4 training and 3 test images of a class, and a validation set."""
    image_folder(root, second="test")
    add_split(root, val, val_images)


def add_split(root, name, per_class, classes=NAMES, seed=2):
    """Add a folder of random images for each class."""
    images = iter(random_images(per_class * len(classes), seed=seed))
    for of_class in classes:
        folder = root / name / of_class
        folder.mkdir(parents=True)
        for i in range(per_class):
            (folder / f"{i:03}.png").write_bytes(encode(next(images)))
    settle(root)


def cifar10_batches(root, per_batch=10):
    """torchvision's layout, as Python 2's pickles had it; returns training pixels and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    pixels, labels = [], []
    for name in (*[f"data_batch_{i}" for i in range(1, 6)], "test_batch"):
        data = rng.randint(0, 256, (per_batch, 3072)).astype(np.uint8)
        batch = {b"data": data, b"labels": cycling_labels(per_batch, 10), b"batch_label": b"x"}
        (folder / name).write_bytes(python2_pickle(batch))
        if name != "test_batch":
            pixels.append(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            labels += batch[b"labels"]
    meta = {b"label_names": [f"class {i}".encode() for i in range(10)]}
    (folder / "batches.meta").write_bytes(python2_pickle(meta))
    settle(root)
    return np.concatenate(pixels), labels


def cifar100_batches(root, count=200):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for name in ("train", "test"):
        data = rng.randint(0, 256, (count, 3072)).astype(np.uint8)
        batch = {
            b"data": data,
            b"fine_labels": cycling_labels(count, 100),
            b"coarse_labels": cycling_labels(count, 20),
        }
        (folder / name).write_bytes(python2_pickle(batch))
    meta = {b"fine_label_names": [f"fine {i}".encode() for i in range(100)]}
    (folder / "meta").write_bytes(python2_pickle(meta))
    settle(root)


def python2_pickle(value):
    """Protocol 2 with byte strings as Python 2 wrote them, and numpy's old module name."""

    class Writer(pickle._Pickler):
        dispatch: ClassVar = dict(pickle._Pickler.dispatch)

        def save_bytes(self, data):
            if len(data) < 256:
                self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
            else:
                self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
            self.memoize(data)

        dispatch[bytes] = save_bytes

    buffer = io.BytesIO()
    Writer(buffer, 2).dump(value)
    return buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def tiny_imagenet(root, per_class=4, val=6):
    """TinyImageNet's own layout below ``root``."""
    wnids = ("n01443537", "n01629819", "n01641577")
    images = random_images(3 * per_class + val, 64)
    number = 0
    for wnid in wnids:
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(per_class):
            (folder / f"{wnid}_{i}.JPEG").write_bytes(encode(images[number], "JPEG"))
            number += 1
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("x\t0\t0\t1\t1\n")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for i in range(val):
        (root / "val" / "images" / f"val_{i}.JPEG").write_bytes(encode(images[number + i], "JPEG"))
        lines.append(f"val_{i}.JPEG\t{wnids[i % 3]}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    settle(root)
    return wnids


def check_train(dataset, pixels, labels):
    np.testing.assert_array_equal(dataset.train.images, pixels)
    assert dataset.train.labels.tolist() == labels
