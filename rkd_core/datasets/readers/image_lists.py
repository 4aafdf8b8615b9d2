"""Reader of image lists: text files with a path and a label on each line, ``train/cat/1.jpg 0``.

ImageNet-LT (Liu et al., CVPR 2019) and iNaturalist 2018 are published in this form: one list names
the training images in a folder, another one the test images.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rkd_core.datasets.readers.base import Location, Provenance, Source, Split
from rkd_core.datasets.readers.image_folder import FileImages
from rkd_core.datasets.readers.paths import ListedFile, Listing, missing
from rkd_core.errors import UserError
from rkd_core.storage.files import expanded
from rkd_core.text.nouns import counted

__all__ = ["ImageLists", "display_name", "locate"]

_DIGITS = 9  # maximum digits of a label
_CHUNK = 4096  # files per task of a thread
_THREADS = 8  # several, so that requests to a network file system overlap


@dataclass(frozen=True)
class ImageLists:
    """Files that list the images of each split; without ``val``, ``test`` is halved."""

    train: Path
    test: Path
    val: Path | None = None


@dataclass(frozen=True)
class _Entries:
    """Contents of a list: normalized paths, labels and line numbers."""

    path: Path
    images: Sequence[str]
    labels: Sequence[int]
    lines: Sequence[int]

    def bad(self, row: int, problem: str) -> UserError:
        """Return the error for one image of the list."""
        return _bad_line(self.path, self.lines[row], problem)


def locate(folder: Path, image_lists: ImageLists) -> Location:
    """Read the list of each split, and find the images.

    A class is named after the folder of its training images if each class has its own folder, and
    after its label otherwise.

    Args:
        folder: Folder that paths are relative to; the folder of the training list is used instead
            if the first training image is found only there.
        image_lists: Files with a path and a label on each line. Labels of the training list are
            0, 1, 2, ... without gaps; the other lists may lack some labels.

    Raises:
        OSError: A list cannot be read.
        UserError: A line is malformed, a path leads out of the folder or to no file, an image is
            listed twice or in two lists, or a label has no training image.
    """
    train, test = _parse(image_lists.train), _parse(image_lists.test)
    val = None if image_lists.val is None else _parse(image_lists.val)
    held_out = [entries for entries in (val, test) if entries is not None]
    for entries in held_out:
        _check_apart(train, entries)
    if val is not None:
        _check_apart(val, test)
    classes = _check_labels(train, held_out)
    places = [folder, train.path.parent]
    first = [isinstance(_stat(str(place), train.images[:1])[0], ListedFile) for place in places]
    root = places[first == [False, True]]
    found = [_find(entries, root) for entries in (train, *held_out)]
    splits = [
        Split(FileImages(root, files), np.asarray(entries.labels, dtype=np.int64))
        for files, entries in zip(found, (train, *held_out), strict=True)
    ]
    source = Source(
        _class_names(train, classes),
        splits[0],
        splits[-1],
        None if val is None else splits[1],
        Provenance(train.path.name, test.path.name, None if val is None else val.path.name),
    )
    listing = tuple(_as_listed(entries.path) for entries in (train, *held_out))
    for files in found:
        listing += files
    rules = tuple(str(entries.path) for entries in (train, *held_out))
    return Location(root, listing, rules, lambda: source)


def display_name(train_list: Path, otherwise: str) -> str:
    """Return the name shown to users, such as ``ImageNet_LT`` for ``ImageNet_LT_train.txt``.

    A list with a bare name such as ``train.txt`` is named ``otherwise``.
    """
    return train_list.stem.removesuffix("train").strip("._- ") or otherwise


def _parse(path: Path) -> _Entries:
    path = expanded(path)
    if not path.is_file():
        problem = f"{path} is not a file" if path.exists() else missing(path)
        raise UserError(f"{problem}: an image list was expected there")
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise _bad_line(path, number, "it is not UTF-8") from error
    line_of: dict[str, int] = {}
    labels: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not (parts := line.rsplit(None, 1)):
            continue
        label = parts[-1]
        sound = label.isascii() and label.isdigit() and len(label) <= _DIGITS
        if len(parts) < 2 or not sound or "\0" in line:
            shown = repr(line.strip()[:80])
            raise _bad_line(
                path, number, f"{shown} is not a path and a label, such as train/cat/1.jpg 0"
            )
        image = posixpath.normpath(parts[0].strip())
        if image.startswith(("/", "../")) or image == "..":
            raise _bad_line(path, number, f"{image} leads out of the folder of the images")
        if (first := line_of.setdefault(image, number)) != number:
            raise _bad_line(path, number, f"{image} is on line {first} already")
        labels.append(int(label))
    if not labels:
        raise UserError(f"{path} names no image")
    return _Entries(path, tuple(line_of), labels, tuple(line_of.values()))


def _bad_line(path: Path, number: int, problem: str) -> UserError:
    return UserError(f"{path} line {number}: {problem}")


def _check_apart(train: _Entries, test: _Entries) -> None:
    """Refuse two lists that share an image."""
    both = set(train.images).intersection(test.images)
    if both:
        row = next(row for row, image in enumerate(test.images) if image in both)
        more = f" (and {counted(len(both) - 1, 'more image')})" if len(both) > 1 else ""
        raise test.bad(row, f"{test.images[row]} is in {train.path}, too{more}")


def _check_labels(train: _Entries, held_out: Sequence[_Entries]) -> int:
    """Return the number of classes; refuse labels without a training image."""
    present = sorted(set(train.labels))
    for label, there in enumerate(present):
        if label != there:
            raise UserError(
                f"{train.path}: label {label} has no image, but label {present[-1]} has; "
                "labels must be 0, 1, 2, ... without gaps"
            )
    classes = len(present)
    for entries in held_out:
        for row, label in enumerate(entries.labels):
            if label >= classes:
                raise entries.bad(row, f"label {label} has no image in {train.path}")
    return classes


def _class_names(train: _Entries, classes: int) -> tuple[str, ...]:
    """Return the name of the folder of each class if it has its own, or else its label."""
    for above in (2, 3):  # 3 for <class>/images/<file>
        folders = {
            (label, "".join(image.split("/")[-above : 1 - above]))
            for image, label in zip(train.images, train.labels, strict=True)
        }
        if len(folders) == classes == len({name for _, name in folders} - {""}):
            return tuple(name for _, name in sorted(folders))
    return tuple(map(str, range(classes)))


def _find(entries: _Entries, root: Path) -> Listing:
    """Return the path, size and modification time of each image."""
    images = entries.images
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = [file for part in pool.map(partial(_stat, str(root)), chunks) for file in part]
    files = tuple(file for file in found if isinstance(file, ListedFile))
    if missing := len(found) - len(files):
        row = next(row for row, file in enumerate(found) if isinstance(file, str))
        more = f" (and {counted(missing - 1, 'more image')} of the list)" if missing > 1 else ""
        raise entries.bad(row, f"{root / images[row]} {found[row]}{more}")
    return files


def _as_listed(path: Path) -> ListedFile:
    status = path.stat()
    return ListedFile(str(path.resolve()), status.st_size, status.st_mtime_ns)


def _stat(root: str, images: Sequence[str]) -> list[ListedFile | str]:
    """Return the files below a root, or for each that is not a file, the reason."""
    found: list[ListedFile | str] = []
    for image in images:
        try:
            status = os.stat(f"{root}/{image}")  # noqa: PTH116 - creating a Path takes longer
        except (FileNotFoundError, NotADirectoryError):
            found.append("does not exist")
        except OSError as error:
            found.append(f"cannot be read: {error.strerror}")
        else:
            regular = stat.S_ISREG(status.st_mode)
            file = ListedFile(image, status.st_size, status.st_mtime_ns)
            found.append(file if regular else "is not a file")
    return found
