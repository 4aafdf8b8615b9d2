"""CIFAR-10 and CIFAR-100 in torchvision's layout: folders of pickled batches.

Pickles can run code and ask for any memory. These are read by an unpickler that can build nothing
but plain values and arrays of bytes, of no more memory than the file has, whoever wrote it.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import pickletools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets.readers.base import ArrayImages, Source, Split
from rkd_core.errors import UserError, first_line

__all__ = ["download", "is_cifar", "read"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Files of one version with the MD5 sums of the official ones, and the keys within."""

    train: dict[str, str]
    test: dict[str, str]
    meta: str
    labels: str
    names: str
    torchvision_class: str


LAYOUTS = {
    "cifar-10-batches-py": Layout(
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta="batches.meta",
        labels="labels",
        names="label_names",
        torchvision_class="CIFAR10",
    ),
    "cifar-100-python": Layout(
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta="meta",
        labels="fine_labels",
        names="fine_label_names",
        torchvision_class="CIFAR100",
    ),
}


def is_cifar(root: Path) -> bool:
    """Whether a folder holds the files of one of the two versions."""
    return _layout(root) is not None


def read(root: Path) -> Source:
    """Read all batches.

    Raises:
        OSError: A file cannot be read.
        UserError: A file is damaged, or asks for more than arrays and plain values.
    """
    layout = _layout(root)
    if layout is None:
        raise UserError(f"{root} does not hold CIFAR's files")
    names = _unpickle(root / layout.meta, (root / layout.meta).read_bytes()).get(layout.names)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{root / layout.meta} has no list {layout.names!r} of class names")
    differing: list[str] = []
    train = _split(root, layout.train, layout.labels, differing)
    test = _split(root, layout.test, layout.labels, differing)
    if differing:
        logger.warning(
            "%s differs from the official files in %s; results may not compare",
            root,
            ", ".join(differing),
        )
    return Source(tuple(names), train, test)


def download(folder_name: str, target: Path) -> None:
    """Fetch one version through torchvision into ``target / folder_name``, all of it or nothing.

    Args:
        folder_name: ``cifar-10-batches-py`` or ``cifar-100-python``.
        target: The folder to put it in. The caller holds its lock.

    Raises:
        UserError: It cannot be fetched or stored.
    """
    import torchvision

    fetch = getattr(torchvision.datasets, LAYOUTS[folder_name].torchvision_class)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as hidden:
            fetch(hidden, download=True)
            shutil.move(Path(hidden) / folder_name, target / folder_name)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a bad checksum is the other
        reason = first_line(error)
        raise UserError(
            f"{folder_name} is nowhere on this machine and cannot be downloaded to {target} "
            f"({reason}): put it, or its Parquet files, into a folder and name that as data_dir"
        ) from error


def _layout(root: Path) -> Layout | None:
    for layout in LAYOUTS.values():
        if all((root / name).is_file() for name in (*layout.train, *layout.test, layout.meta)):
            return layout
    return None


def _split(root: Path, files: dict[str, str], label_key: str, differing: list[str]) -> Split:
    """Read one split; files that are not the official ones are added to ``differing``."""
    images: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.int64]] = []
    for name, md5 in files.items():
        path = root / name
        content = path.read_bytes()
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            differing.append(name)
        batch = _unpickle(path, content)
        data, values = batch.get("data"), batch.get(label_key)
        pixels = data.values if isinstance(data, _Bytes) else None
        if (
            pixels is None
            or pixels.ndim != 2
            or pixels.shape[1] != 3 * 32 * 32
            or not isinstance(values, list)
            or len(values) != len(pixels)
            or not all(isinstance(value, int) and abs(value) < 2**63 for value in values)
        ):
            raise UserError(f"{path} is not a batch of CIFAR: it needs data and {label_key}")
        images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.asarray(values, dtype=np.int64))
    name = f"{root} {'+'.join(files)}"
    return Split(
        ArrayImages(np.ascontiguousarray(np.concatenate(images)), name), np.concatenate(labels)
    )


def _unpickle(path: Path, data: bytes) -> dict[str, Any]:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):  # gets that much
                raise pickle.UnpicklingError(f"it numbers a value {argument}")
        value = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as a batch of CIFAR: {reason}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a batch of CIFAR: it holds no dictionary")
    return value


def _latin1(text: str, encoding: str) -> bytes:
    """What ``_codecs.encode`` is for in these files: bytes written by Python 3 for Python 2."""
    return text.encode("latin1")


class _Kind:
    """A pickled numpy data type; what else is said of it does not matter for bytes."""

    def __init__(self, name: str, *_: object) -> None:
        if name not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"it holds an array of {name!r}, not of bytes (u1)")

    def __setstate__(self, state: object) -> None:
        pass


class _Bytes:
    """A pickled array of bytes. Numpy would allocate whatever shape and type it claims to have."""

    values: NDArray[np.uint8] | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind):
            raise pickle.UnpicklingError("it holds an array of unknown type")
        content = content.encode("latin1") if isinstance(content, str) else content
        values = np.frombuffer(content, np.uint8)
        self.values = values.reshape(shape, order="F" if fortran else "C")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that refuses every global but those an array of bytes needs."""

    allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Bytes,
        ("numpy._core.multiarray", "_reconstruct"): _Bytes,
        ("numpy", "ndarray"): _Bytes,
        ("numpy", "dtype"): _Kind,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is refused") from None
