"""Search for a dataset in data folders and the cache, or its download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rkd_core.datasets import cache
from rkd_core.datasets.readers import cifar, hints, image_folder, parquet, tar_shards
from rkd_core.datasets.readers.base import Location
from rkd_core.datasets.readers.image_lists import ImageLists, locate
from rkd_core.datasets.readers.parquet_columns import ANY, Columns
from rkd_core.datasets.readers.paths import list_files, missing, similar
from rkd_core.datasets.readers.split_names import NAMED, OWN, VALIDATION_FIRST, SplitRule
from rkd_core.datasets.registry import REGISTRY, unknown
from rkd_core.errors import UserError
from rkd_core.storage.files import expanded

__all__ = ["at", "given_folders", "listed", "named", "path"]

_DEEPEST = 4  # maximum levels of folders that contain a single folder


def given_folders(data_dir: Path | None) -> list[Path]:
    """Return the data folders that are searched before the cache: ``data_dir``, ``$RKD_DATA_DIR``.

    Raises:
        UserError: One of them does not exist.
    """
    folders = []
    for base, what in ((data_dir, "`data_dir`"), (os.environ.get("RKD_DATA_DIR"), "$RKD_DATA_DIR")):
        if base:
            folder = expanded(base)
            if not folder.is_dir():
                raise UserError(f"{what} {folder} is not a folder")
            folders.append(folder)
    return folders


def named(
    name: str, data_dir: Path | None, cache_folder: Path, download: bool, columns: Columns = ANY
) -> Location:
    """Find a named dataset: in ``data_dir``, ``$RKD_DATA_DIR``, the cache, or by download.

    Args:
        name: Name in the registry, without ``-lt``, of a dataset that is not built in.
        data_dir: Folder of datasets.
        cache_folder: Cache folder; its subfolder ``datasets`` is searched last and holds
            downloads.
        download: Whether to download a dataset that is not found.
        columns: Parquet columns that the user chose.

    Raises:
        OSError: A folder cannot be read.
        UserError: A data folder does not exist, or the dataset is not found.
    """
    entry = REGISTRY[name]
    store = cache_folder / "datasets"
    candidates = _candidates(name, data_dir, store)
    rule = VALIDATION_FIRST if name.endswith("imagenet") else NAMED
    for candidate in candidates:
        if (location := at(candidate, rule, columns)) is not None:
            return location
    if entry.downloadable and download:
        target = store / entry.folders[0]
        try:
            with cache.locked(cache_folder, f"download-{name}"):
                if not cifar.is_cifar(target):
                    cifar.download(entry.folders[0], store)
        except OSError as error:
            raise UserError(f"{name} cannot be downloaded to {store}: {error}") from error
        if (location := at(target, rule, columns)) is not None:
            return location
    looked = ", ".join(str(candidate) for candidate in candidates)
    pickles = f"{entry.folders[0]} as torchvision keeps it, " if entry.downloadable else ""
    raise UserError(
        f"{name} was not found and {_no_download(entry.downloadable)}; looked for {looked}. "
        f"Accepted: {pickles}{hints.LAYOUTS}"
    )


def listed(
    name_or_path: str,
    image_lists: ImageLists,
    data_dir: Path | None,
    cache_folder: Path,
) -> Location:
    """Return the images that lists name, in a folder or in the folder of a named dataset.

    Raises:
        OSError: A list cannot be read.
        UserError: There is no such folder, or a list is invalid.
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
    return locate(folder, image_lists)


def at(folder: Path, rule: SplitRule, columns: Columns = ANY) -> Location | None:
    """Return the dataset in a folder; None if no reader supports it.

    Args:
        folder: Folder of one dataset.
        rule: Choice of the test and validation splits.
        columns: Parquet columns that the user chose.

    Raises:
        OSError: A folder cannot be read.
        UserError: Columns are chosen, but the dataset is not Parquet.
    """
    if not folder.is_dir():
        return None
    if cifar.is_cifar(folder):
        _refuse_columns(columns, folder)
        return Location(folder, list_files(folder), (), partial(cifar.read, folder))
    rules = asdict(rule), asdict(columns)
    if (inner := parquet.find_folder(folder)) is not None:
        reader = partial(parquet.read, inner, rule, columns)
        of_arrays = parquet.holds_arrays(inner, columns)
        return Location(inner, list_files(inner), rules, reader, of_arrays)
    if image_folder.is_image_folder(folder):
        _refuse_columns(columns, folder)
        files = list_files(folder)
        return Location(folder, files, rules, partial(image_folder.read, folder, files, rule))
    if (inner := tar_shards.find_folder(folder)) is not None:
        reader = partial(tar_shards.read, inner, rule, columns)
        return Location(inner, list_files(inner), rules, reader)
    return None


def path(name_or_path: str, columns: Columns = ANY) -> Location:
    """Return the dataset at a path, in the only folder inside it, or in a Hub snapshot.

    Raises:
        OSError: A folder cannot be read.
        UserError: The path is not a folder, or no reader supports it.
    """
    folder = expanded(name_or_path)
    if folder.is_file():
        raise UserError(hints.for_file(folder))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: a data set is a folder with {hints.LAYOUTS}")
    if not name_or_path or not folder.is_dir():
        if os.sep in name_or_path or name_or_path.startswith(("~", ".")):
            raise UserError(
                f"{missing(folder)} (`name_or_path` takes a name from `datasets.names()`, or a "
                "folder)"
            )
        line = str(unknown(name_or_path))
        close = similar(folder)
        if "did you mean" not in line and name_or_path and close is not None and close.is_dir():
            line = line.replace(": ", f": did you mean the folder {close}? ", 1)
        raise UserError(line)
    for place in _nested(folder):
        if (location := at(place, OWN, columns)) is not None:
            return location
    parent = folder.resolve().parent
    names = ("train", "training", *OWN.names)
    if folder.resolve().name.lower() in names and image_folder.is_image_folder(parent):
        raise UserError(f"{folder} is one split of a dataset: give the folder above, {parent}")
    raise UserError(hints.without_training_split(folder))


def _nested(folder: Path) -> Iterator[Path]:
    """Yield a folder, then in turn the only folder inside it or its Hub snapshot."""
    for _ in range(_DEEPEST):
        yield folder
        snapshots = folder / "snapshots"
        if snapshots.is_dir():
            newest = max(
                (path for path in snapshots.iterdir() if path.is_dir()),
                key=lambda path: path.stat().st_mtime,
                default=None,
            )
            main = folder / "refs" / "main"
            named = (
                snapshots / main.read_text(encoding="utf-8", errors="replace").strip()
                if main.is_file()
                else None
            )
            following = named if named is not None and named.is_dir() else newest
        else:
            names = image_folder.subfolders(folder)
            following = folder / names[0] if len(names) == 1 else None
        if following is None:
            return
        folder = following


def _refuse_columns(columns: Columns, folder: Path) -> None:
    if columns != ANY:
        raise UserError(f"`columns` are for Parquet and tar shards, which {folder} is not")


def _candidates(name: str, data_dir: Path | None, store: Path) -> list[Path]:
    """Return the possible folders of a named dataset, in the order of the search."""
    folders = REGISTRY[name].folders
    return [
        candidate
        for place in (*given_folders(data_dir), store)
        for candidate in (*(place / folder for folder in folders), place)
        if candidate != place or place.resolve().name in folders  # the user named the inner folder
    ]


def _no_download(downloadable: bool) -> str:
    return "downloading is off" if downloadable else "cannot be downloaded"
