"""Advice for files and folders that are not a supported dataset."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from rkd_core.datasets.readers.formats import is_image_file
from rkd_core.datasets.readers.image_folder import subfolders
from rkd_core.datasets.readers.paths import is_ignored
from rkd_core.datasets.readers.split_names import spelling

__all__ = ["LAYOUTS", "for_file", "without_training_split"]

LAYOUTS = (
    "train.parquet with test.parquet (shards too), train-000000.tar with test-000000.tar, or "
    "train/<class>/ with test/<class>/; "
    "in place of test or beside it also valid, validation or val"
)

_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_TABLES = (".csv", ".tsv", ".jsonl")
_LISTS = "`train_list` and `test_list`"
_MOST_SCANNED = 100  # maximum number of files of a folder that are examined
_LONGEST = 100  # maximum characters of a list of names


def for_file(file: Path) -> str:
    """Return advice for a file given in place of a dataset folder."""
    ending = file.suffix.lower()
    if ending in _ARCHIVES:
        return f"{file} is an archive: unpack it, and give the folder"
    if ending in (".txt", *_TABLES):
        return f"{file} is a file: give the folder of the images, and lists as {_LISTS}"
    return f"{file} is a file: give the folder of a dataset, with {LAYOUTS}"


def without_training_split(folder: Path) -> str:
    """Return advice for a folder without a training split."""
    names = sorted(path.name for path in folder.iterdir() if not is_ignored(path.name))
    inside = subfolders(folder)
    train = spelling("train", inside)
    tables = _ending_in(names, _TABLES)
    archives = _ending_in(names, _ARCHIVES)
    parquet = _ending_in(names, (".parquet",))
    what = f"{folder} has no training split"
    advice = [
        (not names, f"{folder} is empty: a folder of a dataset has {LAYOUTS}"),
        (
            _has_arrow_files(folder, names, inside),
            f"{what}, but Arrow files of the datasets library: write each split as Parquet, with "
            "ds['train'].to_parquet('train.parquet') and the same for test",
        ),
        (
            train is not None,
            f"{folder / str(train)} has no class folders: sort its images into {train}/<class>/, "
            f"or give lists as {_LISTS}",
        ),
        (
            bool(tables),
            f"{what}, but {_some(tables)}: write {_LISTS} from it, with a path from {folder} and "
            "an integer label on each line, such as images/1.jpg 0",
        ),
        (bool(archives), f"{what}, but {_some(archives)}: unpack it first"),
        (
            bool(parquet),
            f"{what}, but {_some(parquet)}: rename or split it into train.parquet and test.parquet",
        ),
        (
            len(inside) > 1 and _holds_images(folder / inside[0]),
            f"{what}, but folders of images ({_some(inside)}): if these are classes, divide them "
            f"into train/<class>/ and test/<class>/, or give lists as {_LISTS}",
        ),
        (True, f"{what} (it has {_some(names)}): a folder of a dataset has {LAYOUTS}"),
    ]
    return next(text for applies, text in advice if applies)


def _ending_in(names: Sequence[str], endings: tuple[str, ...]) -> list[str]:
    return [name for name in names if name.lower().endswith(endings)]


def _has_arrow_files(folder: Path, names: Sequence[str], inside: Sequence[str]) -> bool:
    """Return whether the ``datasets`` library saved or cached a dataset in a folder."""
    below = (path.name for name in inside for path in (folder / name).iterdir())
    return any(name.endswith(".arrow") for name in itertools.chain(names, below))


def _holds_images(folder: Path) -> bool:
    files = itertools.islice(folder.iterdir(), _MOST_SCANNED)
    return any(is_image_file(path.name) for path in files)


def _some(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
