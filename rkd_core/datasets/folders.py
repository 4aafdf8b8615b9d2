"""Folders of image files: torchvision's ImageFolder layout, and TinyImageNet's own.

``<root>/train/<class>/**`` with a second such folder (``val``, ``valid``, ``validation`` or
``test``), or TinyImageNet's ``val/images`` with ``val/val_annotations.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rkd_core.datasets.paths import ListedFile, Listing, unreadable
from rkd_core.datasets.sources import Encoded, Source, Split, spread
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
        return [self.read(row) for row in spread(len(self), count).tolist()]

    def read(self, row: int) -> bytes:
        """One file's bytes; none if the file is missing, as where a link leads nowhere."""
        try:
            return (self.root / self.files[row].path).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise unreadable(error, self.describe(row)) from error


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
        OSError: A folder or TinyImageNet's list cannot be read.
        UserError: There is no second folder, it has a class that ``train`` lacks, or a class has
            no training image.
    """
    names = _class_names(root / "train")
    train = _labelled(root, files, "train", names)
    for name, count in zip(names, np.bincount(train.labels, minlength=len(names)), strict=True):
        if count == 0:
            raise _no_image(root / "train" / name)
    if (root / ANNOTATIONS).is_file():
        return Source(names, train, _annotated(root, files, names), "val")
    second = _second_folder(root, files, test_names, names)
    test = _labelled(root, files, second, names)
    if len(test.labels) == 0:
        raise _no_image(root / second / "<class>")
    return Source(names, train, test, second)


def _class_names(train: Path) -> tuple[str, ...]:
    names = []
    for path in train.iterdir():
        if path.name.startswith("."):
            continue
        if not path.exists():  # or a class would go unnoticed
            raise UserError(f"{path} is a link to nowhere")
        if path.is_dir():
            names.append(path.name)
    return tuple(sorted(names))


def _second_folder(
    root: Path, files: Listing, test_names: Sequence[str], classes: tuple[str, ...]
) -> str:
    """The preferred one of those with labels, that is with images in a training class's folder."""
    present = [name for name in test_names if (root / name).is_dir()]
    if not present:
        wanted = " or ".join(test_names)
        raise UserError(f"{root} has a train folder but no test folder: add {wanted}")
    known = set(classes)
    labelled = {
        parts[0]
        for file in files
        if _is_image(file) and len(parts := file.path.split("/", 2)) == 3 and parts[1] in known
    }
    return next((name for name in present if name in labelled), present[0])


def _no_image(folder: Path) -> UserError:
    return UserError(
        f"{folder} holds no file with the extension of an image: {', '.join(EXTENSIONS)}"
    )


def _labelled(root: Path, files: Listing, split: str, names: tuple[str, ...]) -> Split:
    """``<split>/<class>/**`` in torchvision's order: by class, by folder, by name."""
    label_of = {name: label for label, name in enumerate(names)}
    found: list[tuple[int, str, str, ListedFile]] = []
    for file in files:
        parts = file.path.split("/", 2)
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
