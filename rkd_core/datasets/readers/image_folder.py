"""Reader of folders of image files, in the layouts of torchvision's ImageFolder and TinyImageNet.

The layout is ``<root>/train/<class>/**`` with one or two more such folders (``val``, ``valid`` or
``validation``, and ``test``), or TinyImageNet's ``val/images`` with ``val/val_annotations.txt``.
There may be single folders between a split and its classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from rkd_core.datasets.readers.base import (
    Encoded,
    Provenance,
    Source,
    Split,
    check_class_names,
    spread,
)
from rkd_core.datasets.readers.formats import endings, is_image_file
from rkd_core.datasets.readers.paths import ListedFile, Listing, is_ignored, unreadable
from rkd_core.datasets.readers.split_names import SplitRule, spelling
from rkd_core.errors import UserError
from rkd_core.text.nouns import counted

__all__ = ["FileImages", "is_image_folder", "read", "subfolders"]

ANNOTATIONS = "val/val_annotations.txt"
BOXES = ("_boxes.txt", "val_annotations.txt")
"""Endings of TinyImageNet's text files."""

_DEEPEST = 4  # maximum levels of single folders between a split and its classes
_SHOWN = 5  # maximum names in a message


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
        """Return the path of the file."""
        return str(self.root / self.files[row].path)

    def sample(self, count: int) -> list[Encoded]:
        """Return evenly spaced images, which belong to many classes."""
        return [self.read(row) for row in spread(len(self), count).tolist()]

    def read(self, row: int) -> bytes:
        """Return the bytes of a file; empty if it is missing, such as behind a broken link."""
        try:
            return (self.root / self.files[row].path).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise unreadable(error, self.describe(row)) from error


def is_image_folder(root: Path) -> bool:
    """Return whether a folder has a training folder that contains folders."""
    train = spelling("train", subfolders(root))
    return train is not None and bool(subfolders(root / train))


def read(root: Path, files: Listing, rule: SplitRule) -> Source:
    """Sort the files of a root into classes and splits.

    Args:
        root: Folder with ``train``, and usually one or two more folders; without one, the rule
            decides.
        files: All files below it.
        rule: Choice of the test and validation folders.

    Raises:
        OSError: A folder or TinyImageNet's list cannot be read.
        UserError: There is no second folder, it has a class that is not in ``train``, there is
            only one class, or a class has no training image.
    """
    present, by_top = subfolders(root), _by_top_folder(files)
    train_name = spelling("train", present) or "train"
    inner = _training_classes(root, train_name)
    names = _class_names(root / inner)
    if len(names) == 1:
        inside = subfolders(root / inner / names[0])
        below = f", in which there are folders ({_some(inside)})" if inside else ""
        raise UserError(
            f"{root / inner} has one class folder, {names[0]}{below}; a classifier needs two "
            "or more classes"
        )
    check_class_names(names, str(root / inner))
    label_of = {name: label for label, name in enumerate(names)}

    def folder_of(split: str, where: str) -> _Folder:
        return _Folder(root, split, where, by_top.get(split, []), label_of, root / inner)

    train = folder_of(train_name, inner)
    split = train.labeled()
    for name, count in zip(names, np.bincount(split.labels, minlength=len(names)), strict=True):
        if count == 0:
            raise train.without_image(name)
    if (root / ANNOTATIONS).is_file():
        test = _annotated(root, files, label_of)
        return Source(names, split, test, None, _provenance([train], "val", None, by_top))
    found = {name: actual for name in rule.names if (actual := spelling(name, present))}
    if not found and rule.all_three:
        return Source(names, split, None, None, _provenance([train], None, None, by_top))
    if not found:
        wanted = " or ".join(rule.names)
        raise UserError(f"{root} has a {train_name} folder but no test folder: add {wanted}")
    held_out = {
        name: folder_of(actual, _level(root, actual, label_of)) for name, actual in found.items()
    }
    labeled = [name for name, folder in held_out.items() if folder.has_labels()]
    test_name, val_name = rule.choose(labeled or [*held_out])
    used = held_out[test_name]
    test = used.labeled()
    if len(test.labels) == 0:
        raise used.without_image("<class>")
    if val_name is None:
        provenance = _provenance([train, used], used.name, None, by_top)
        return Source(names, split, test, None, provenance)
    val = held_out[val_name]
    provenance = _provenance([train, val, used], used.name, val.name, by_top)
    return Source(names, split, test, val.labeled(), provenance)


def subfolders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in a folder, without ignored ones."""
    return sorted(
        path.name for path in folder.iterdir() if not is_ignored(path.name) and path.is_dir()
    )


@dataclass(frozen=True)
class _Folder:
    """The folder of one split.

    Attributes:
        root: Folder of the dataset.
        name: Name of the folder.
        inner: Path, from the root, of the folder that holds the class folders.
        files: All files below the split's folder.
        label_of: Label of each class name.
        training: Folder of the training classes.
    """

    root: Path
    name: str
    inner: str
    files: Sequence[ListedFile]
    label_of: Mapping[str, int]
    training: Path

    def labeled(self) -> Split:
        """Return ``<inner>/<class>/**`` in torchvision's order: by class, by folder, by name."""
        found: list[tuple[int, str, str, ListedFile]] = []
        for file, name in self._images():
            if name not in self.label_of:
                raise UserError(
                    f"{self.root / self.inner / name} is a class that {self.training} does not have"
                )
            folder, _, last = file.path.rpartition("/")
            found.append((self.label_of[name], folder, last, file))
        found.sort(key=lambda entry: entry[:3])
        labels = np.asarray([entry[0] for entry in found], dtype=np.int64)
        return Split(FileImages(self.root, tuple(entry[3] for entry in found)), labels)

    def has_labels(self) -> bool:
        """Return whether the folder of any training class contains an image."""
        return any(name in self.label_of for _, name in self._images())

    def without_image(self, name: str) -> UserError:
        """Return the error for a class folder without an image."""
        there = [file for file in self.files if file.path.startswith(f"{self.inner}/{name}/")]
        unread = f" (it holds {', '.join(_by_ending(there))})" if there else ""
        return UserError(
            f"{self.root / self.inner / name} holds no file with the extension of an image: "
            f"{', '.join(endings())}{unread}"
        )

    def remarks(self) -> list[str]:
        """Return remarks on the layout of the folders."""
        lines = []
        if self.inner != self.name:
            lines.append(f"{self.name}: the classes are the folders in {self.inner}")
        inside: dict[str, set[str]] = {}
        for file, name in self._images():
            rest = file.path[len(self.inner) + len(name) + 2 :]
            inside.setdefault(name, set()).add(rest.partition("/")[0] if "/" in rest else "")
        deeper = {name: sorted(folders - {""}) for name, folders in inside.items()}
        if len({*map(tuple, inside.values())}) > 1 or any(len(f) > 1 for f in inside.values()):
            shown = [f"{name} ({_some(folders)})" for name, folders in deeper.items() if folders]
            if shown:
                lines.append(
                    f"{self.name}: images in folders inside a class folder count as its class: "
                    f"{_some(shown)}"
                )
        return lines

    def warnings(self) -> list[str]:
        """Return remarks on files in the folder that are not read."""
        annotated = (self.root / ANNOTATIONS).is_file()
        unread = [
            file
            for file in self.files
            if not is_image_file(file.path) and not (annotated and file.path.endswith(BOXES))
        ]
        loose = sum(
            is_image_file(file.path) and file.path.count("/") <= self.inner.count("/") + 1
            for file in self.files
        )
        lines = []
        if unread:
            lines.append(f"{self.name}: not read: {', '.join(_by_ending(unread))}")
        if loose:
            lines.append(
                f"{self.name}: not read: {counted(loose, 'image')} outside of the class folders"
            )
        return lines

    def _images(self) -> Iterator[tuple[ListedFile, str]]:
        """Yield the images below each folder of ``inner``, with the name of that folder."""
        prefix = f"{self.inner}/"
        for file in self.files:
            if file.path.startswith(prefix) and is_image_file(file.path):
                name, slash, _ = file.path[len(prefix) :].partition("/")
                if slash:
                    yield file, name


def _by_top_folder(files: Listing) -> dict[str, list[ListedFile]]:
    tops: dict[str, list[ListedFile]] = {}
    for file in files:
        tops.setdefault(file.path.partition("/")[0], []).append(file)
    return tops


def _by_ending(files: Sequence[ListedFile]) -> list[str]:
    """Count files by ending: ``3 .heic``, the most frequent first."""
    counts = Counter(PurePosixPath(file.path).suffix.lower() for file in files)
    return [
        f"{count} {ending or ('file' if count == 1 else 'files') + ' without an ending'}"
        for ending, count in counts.most_common(_SHOWN)
    ] + ([f"and {len(counts) - _SHOWN} more endings"] if len(counts) > _SHOWN else [])


def _some(names: Sequence[str]) -> str:
    more = f", ... ({len(names)})" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _training_classes(root: Path, split: str) -> str:
    """Return the folder that holds the class folders: the split's, or one below single folders."""
    inner = split
    for _ in range(_DEEPEST):
        names = subfolders(root / inner)
        if len(names) != 1:
            break
        inner = f"{inner}/{names[0]}"
    return inner if len(subfolders(root / inner)) > 1 else split


def _level(root: Path, split: str, classes: Collection[str]) -> str:
    """Return the folder of a split that holds folders of training classes, if there is one."""
    inner = split
    for _ in range(_DEEPEST):
        names = subfolders(root / inner)
        if len(names) != 1 or names[0] in classes:
            break
        inner = f"{inner}/{names[0]}"
    return inner if not {*subfolders(root / inner)}.isdisjoint(classes) else split


def _class_names(train: Path) -> tuple[str, ...]:
    for path in train.iterdir():
        if not is_ignored(path.name) and not path.exists():  # otherwise a class would be missing
            raise UserError(f"{path} is a broken link")
    return tuple(subfolders(train))


def _provenance(
    used: Sequence[_Folder],
    test: str | None,
    val: str | None,
    by_top: Mapping[str, Sequence[ListedFile]],
) -> Provenance:
    read = {test, val, *(folder.name for folder in used)}
    others = [
        name
        for name, files in by_top.items()
        if name not in read and any("/" in f.path and is_image_file(f.path) for f in files)
    ]
    remarks = [line for folder in used for line in folder.remarks()]
    if others:
        remarks.append(f"not used: {_some(others)}")
    warnings = [line for folder in used for line in folder.warnings()]
    return Provenance(used[0].name, test, val, tuple(remarks), tuple(warnings))


def _annotated(root: Path, files: Listing, label_of: Mapping[str, int]) -> Split:
    """Return TinyImageNet's validation set, from its list of files and classes."""
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
