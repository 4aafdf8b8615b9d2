"""Where a dataset lies: among the data folders, in the cache, or on the network."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from rkd_core.datasets import cache, cifar, folders, lists, parquet
from rkd_core.datasets.names import REGISTRY, unknown
from rkd_core.datasets.paths import list_files
from rkd_core.datasets.sources import Location
from rkd_core.errors import UserError
from rkd_core.files import expanded

__all__ = ["at", "given_folders", "listed", "named", "path"]

TEST_FIRST = ("test", "valid", "validation", "val")
VALIDATION_FIRST = ("val", "valid", "validation", "test")

LAYOUTS = (
    "train.parquet with test.parquet (shards too), or train/<class>/ with test/<class>/; "
    "in place of test also valid, validation or val"
)


def given_folders(data_dir: Path | None) -> list[Path]:
    """Where data are looked for before the cache: ``data_dir``, then ``$RKD_DATA_DIR``.

    Raises:
        UserError: One of them does not exist.
    """
    folders = []
    for base, what in ((data_dir, "--data-dir"), (os.environ.get("RKD_DATA_DIR"), "$RKD_DATA_DIR")):
        if base:
            folder = expanded(base)
            if not folder.is_dir():
                raise UserError(f"{what} {folder} is not a folder")
            folders.append(folder)
    return folders


def named(name: str, data_dir: Path | None, cache_folder: Path, download: bool) -> Location:
    """Find a named dataset: in ``data_dir``, ``$RKD_DATA_DIR``, the cache, or by download.

    Args:
        name: In the registry, without ``-lt``, with folders.
        data_dir: A folder of datasets.
        cache_folder: Its ``datasets`` folder is searched last, and is where a download goes.
        download: Whether to fetch what is nowhere.

    Raises:
        OSError: A folder cannot be read.
        UserError: A data folder does not exist, or the dataset is nowhere.
    """
    entry = REGISTRY[name]
    store = cache_folder / "datasets"
    candidates = _candidates(name, data_dir, store)
    for candidate in candidates:
        if (location := at(candidate, validation_first=name.endswith("imagenet"))) is not None:
            return location
    if entry.downloadable and download:
        target = store / entry.folders[0]
        try:
            with cache.locked(cache_folder, f"download-{name}"):
                if not cifar.is_cifar(target):
                    cifar.download(entry.folders[0], store)
        except OSError as error:
            raise UserError(f"{name} cannot be downloaded to {store}: {error}") from error
        if (location := at(target)) is not None:
            return location
    looked = ", ".join(str(candidate) for candidate in candidates)
    pickles = f"{entry.folders[0]} as torchvision keeps it, " if entry.downloadable else ""
    raise UserError(
        f"{name} was not found and {_no_download(entry.downloadable)}; looked for {looked}. "
        f"Accepted are {pickles}{LAYOUTS}"
    )


def listed(
    name_or_path: str,
    train_list: Path,
    test_list: Path,
    data_dir: Path | None,
    cache_folder: Path,
) -> Location:
    """The images that two lists name, in a folder or in that of a named dataset.

    Raises:
        OSError: A list cannot be read.
        UserError: There is no such folder, or a list is bad input.
    """
    if name_or_path in REGISTRY:
        places = _candidates(name_or_path, data_dir, cache_folder / "datasets")
    else:
        places = [expanded(name_or_path)] if name_or_path else []
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        looked = f"; looked for {', '.join(map(str, places))}" if name_or_path in REGISTRY else ""
        raise UserError(
            f"{name_or_path!r} is not a folder: with an image list, the data set is the folder "
            f"that its paths start from{looked}"
        )
    return lists.locate(folder, train_list, test_list)


def at(folder: Path, *, validation_first: bool = False) -> Location | None:
    """What lies in a folder; None if no reader knows it.

    Args:
        folder: Of one dataset.
        validation_first: Prefer a validation split to a test split where both are there (the
            test labels of ImageNet are not published).

    Raises:
        OSError: A folder cannot be read.
        UserError: Files of it are missing, or there twice.
    """
    if not folder.is_dir():
        return None
    if cifar.is_cifar(folder):
        return Location(folder, list_files(folder), (), partial(cifar.read, folder))
    order = VALIDATION_FIRST if validation_first else TEST_FIRST
    if (inner := parquet.find_folder(folder)) is not None:
        return Location(inner, list_files(inner), order, partial(parquet.read, inner, order))
    if folders.is_image_folder(folder):
        files = list_files(folder)
        return Location(folder, files, order, partial(folders.read, folder, files, order))
    return None


def path(name_or_path: str) -> Location:
    """What lies at a path.

    Raises:
        OSError: A folder cannot be read.
        UserError: It is no folder, or no reader knows it.
    """
    folder = expanded(name_or_path)
    if folder.is_file():
        raise UserError(f"{folder} is a file: give the folder of a dataset, with {LAYOUTS}")
    if not name_or_path or not folder.is_dir():
        raise unknown(name_or_path)
    if (location := at(folder)) is not None:
        return location
    parent = folder.resolve().parent
    if folder.resolve().name in ("train", *TEST_FIRST) and folders.is_image_folder(parent):
        raise UserError(f"{folder} is one split of a dataset: give the folder above, {parent}")
    problem = "has no training split" if any(folder.iterdir()) else "is empty"
    raise UserError(f"{folder} {problem}: a folder of a dataset has {LAYOUTS}")


def _candidates(name: str, data_dir: Path | None, store: Path) -> list[Path]:
    """Where the folder of a named dataset may be, the first choice first."""
    folders = REGISTRY[name].folders
    return [
        candidate
        for place in (*given_folders(data_dir), store)
        for candidate in (*(place / folder for folder in folders), place)
        if candidate != place or place.resolve().name in folders  # one level too deep
    ]


def _no_download(downloadable: bool) -> str:
    return "downloading is off" if downloadable else "cannot be downloaded"
