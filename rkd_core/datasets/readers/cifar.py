"""CIFAR-10 and CIFAR-100 in torchvision's layout: folders of pickled batches.

Unpickling a file from an unknown source can run code and allocate any amount of memory. The
unpickler used here creates only plain values and arrays of bytes, no larger than the file.
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

from rkd_core.datasets.readers.base import ImagesInMemory, Source, Split
from rkd_core.errors import UserError, first_line

__all__ = ["download", "is_cifar", "read"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """Files of one version with the MD5 sums of the official files, and their dictionary keys."""

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
    """Return whether a folder holds the files of CIFAR-10 or CIFAR-100."""
    return _layout(root) is not None


def read(root: Path) -> Source:
    """Read all batches of a folder.

    Raises:
        OSError: A file cannot be read.
        UserError: A file is damaged, or contains more than arrays and plain values.
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
            "%s differs from the official files in %s; results may not be comparable",
            root,
            ", ".join(differing),
        )
    return Source(tuple(names), train, test)


def download(folder_name: str, target: Path) -> None:
    """Download one version through torchvision into ``target / folder_name``, atomically.

    Args:
        folder_name: ``cifar-10-batches-py`` or ``cifar-100-python``.
        target: Parent folder. The caller holds its lock.

    Raises:
        UserError: The files cannot be downloaded or stored.
    """
    import torchvision

    fetch = getattr(torchvision.datasets, LAYOUTS[folder_name].torchvision_class)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as hidden:
            fetch(hidden, download=True)
            shutil.move(Path(hidden) / folder_name, target / folder_name)
    except (OSError, RuntimeError) as error:  # RuntimeError: wrong checksum
        reason = first_line(error)
        raise UserError(
            f"{folder_name} was not found and cannot be downloaded to {target} "
            f"({reason}): put it, or its Parquet files, into a folder and pass that as data_dir"
        ) from error


def _layout(root: Path) -> Layout | None:
    for layout in LAYOUTS.values():
        if all((root / name).is_file() for name in (*layout.train, *layout.test, layout.meta)):
            return layout
    return None


def _split(root: Path, files: dict[str, str], label_key: str, differing: list[str]) -> Split:
    """Read one split; add the names of files that are not the official ones to ``differing``."""
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
            raise UserError(f"{path} is not a CIFAR batch: it needs data and {label_key}")
        images.append(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.asarray(values, dtype=np.int64))
    name = f"{root} {'+'.join(files)}"
    return Split(
        ImagesInMemory(np.ascontiguousarray(np.concatenate(images)), name), np.concatenate(labels)
    )


def _unpickle(path: Path, data: bytes) -> dict[str, Any]:
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name.endswith("PUT") and int(argument or 0) > len(data):
                # The unpickler would allocate a memo of that size.
                raise pickle.UnpicklingError(f"its memo index {argument} is larger than the file")
        value = _ArraysOnly(io.BytesIO(data), encoding="latin1").load()
    except Exception as error:  # a damaged pickle can raise anything
        reason = first_line(error)
        raise UserError(f"{path} cannot be read as a CIFAR batch: {reason}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is not a CIFAR batch: it does not contain a dictionary")
    return value


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, which decodes bytes that Python 3 pickled for Python 2."""
    return text.encode("latin1")


class _Kind:
    """Pickled NumPy data type; its other fields are irrelevant for bytes."""

    def __init__(self, name: str, *_: object) -> None:
        if name not in ("u1", "|u1"):
            raise pickle.UnpicklingError(f"it contains an array of {name!r}, not of bytes (u1)")

    def __setstate__(self, state: object) -> None:
        pass


class _Bytes:
    """Pickled array of bytes; NumPy itself would allocate whatever shape the pickle states."""

    values: NDArray[np.uint8] | None = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, content = state
        if not isinstance(kind, _Kind):
            raise pickle.UnpicklingError("it contains an array of unknown type")
        content = content.encode("latin1") if isinstance(content, str) else content
        values = np.frombuffer(content, np.uint8)
        self.values = values.reshape(shape, order="F" if fortran else "C")


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that refuses all globals except those that arrays of bytes need."""

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
            raise pickle.UnpicklingError(
                f"it refers to {module}.{name}, which is refused"
            ) from None
