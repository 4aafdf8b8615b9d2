"""Folders of image files: torchvision's ImageFolder layout, and TinyImageNet's own.

``<root>/train/<class>/**`` with a second such folder (``val``, ``valid``, ``validation`` or
``test``), or TinyImageNet's ``val/images`` with ``val/val_annotations.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rkd_core.datasets.sources import Encoded, ListedFile, Listing, Source, Split
from rkd_core.errors import UserError

__all__ = ["FileImages", "is_image_folder", "read"]

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
ANNOTATIONS = "val/val_annotations.txt"


@dataclass(frozen=True)
class FileImages:
    """Image files below a root, in order."""

    root: Path
    files: Listing

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Encoded]:
        return map(self.read, range(len(self)))

    def describe(self, row: int) -> str:
        """The file."""
        return str(self.root / self.files[row].path)

    def sample(self, count: int) -> list[Encoded]:
        """Images at even distances, so that all classes are in it."""
        rows = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))
        return [self.read(row) for row in rows.tolist()]

    def read(self, row: int) -> bytes:
        """One file's bytes."""
        try:
            return (self.root / self.files[row].path).read_bytes()
        except OSError as error:
            raise UserError(f"{self.describe(row)} cannot be read: {error.strerror}") from error


def is_image_folder(root: Path) -> bool:
    """Whether there is a ``train`` folder with folders in it."""
    train = root / "train"
    return train.is_dir() and any(path.is_dir() for path in train.iterdir())


def read(root: Path, files: Listing, test_names: Sequence[str]) -> Source:
    """Sort the files of a root into classes and splits.

    Args:
        root: Holds ``train`` and a second folder.
        files: All files below it.
        test_names: Names of the second folder, the preferred one first.

    Raises:
        UserError: There is no second folder, or it has a class that ``train`` lacks.
    """
    names = tuple(sorted(path.name for path in (root / "train").iterdir() if _is_class(path)))
    train = _labelled(root, files, "train", names)
    if (root / ANNOTATIONS).is_file():
        return Source(names, train, _annotated(root, files, names))
    for split in test_names:
        if (root / split).is_dir():
            return Source(names, train, _labelled(root, files, split, names))
    raise UserError(f"{root} has a train folder but no test folder: add {' or '.join(test_names)}")


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _labelled(root: Path, files: Listing, split: str, names: tuple[str, ...]) -> Split:
    """``<split>/<class>/**`` in torchvision's order: by class, by folder, by name."""
    label_of = {name: label for label, name in enumerate(names)}
    found: list[tuple[int, str, str, ListedFile]] = []
    for file in files:
        parts = PurePosixPath(file.path).parts
        if parts[0] != split or len(parts) < 3 or not _is_image(file):
            continue
        if parts[1] not in label_of:
            raise UserError(
                f"{root / split / parts[1]} is a class that {root / 'train'} does not have"
            )
        folder, _, name = file.path.rpartition("/")
        found.append((label_of[parts[1]], folder, name, file))
    found.sort(key=lambda entry: entry[:3])
    labels = np.asarray([entry[0] for entry in found], dtype=np.int64)
    return Split(FileImages(root, tuple(entry[3] for entry in found)), labels)


def _annotated(root: Path, files: Listing, names: tuple[str, ...]) -> Split:
    """TinyImageNet's validation set: each line names a file, a tab, and its class."""
    label_of = {name: label for label, name in enumerate(names)}
    by_path = {file.path: file for file in files}
    chosen: list[ListedFile] = []
    labels: list[int] = []
    text = (root / ANNOTATIONS).read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        file = by_path.get(f"val/images/{name}")
        if file is None or wnid not in label_of:
            raise UserError(
                f"{root / ANNOTATIONS} line {number}: no image val/images/{name}, "
                f"or no class {wnid!r} in train"
            )
        chosen.append(file)
        labels.append(label_of[wnid])
    return Split(FileImages(root, tuple(chosen)), np.asarray(labels, dtype=np.int64))


def _is_image(file: ListedFile) -> bool:
    return file.path.lower().endswith(EXTENSIONS)
