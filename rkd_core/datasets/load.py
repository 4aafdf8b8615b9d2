"""Loading of a dataset by name or folder into training, validation and test sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rkd_core.datasets import cache
from rkd_core.datasets.image_set import Dataset, ImageSet
from rkd_core.datasets.preparation.prepare import Options, Prepared, prepare, prepare_in_memory
from rkd_core.datasets.readers import digits, locate
from rkd_core.datasets.readers.base import SPLIT_ADJECTIVES, Inventory, Location
from rkd_core.datasets.readers.image_lists import ImageLists
from rkd_core.datasets.readers.image_lists import display_name as name_of_lists
from rkd_core.datasets.readers.parquet_columns import ANY, Columns
from rkd_core.datasets.readers.paths import Listing, escaped, is_plain, unreadable
from rkd_core.datasets.registry import LONG_TAIL, REGISTRY, default_imbalance, display_name
from rkd_core.datasets.splits import draw_classes, halve, training_rows
from rkd_core.datasets.streamed_set import StreamedImageSet
from rkd_core.errors import UserError
from rkd_core.specs import DataOptions
from rkd_core.storage.files import expanded
from rkd_core.text.nouns import counted

__all__ = ["load"]

logger = logging.getLogger(__name__)

LARGEST_SIDE = 4096
MOST_FILES = 20_000
"""Maximum number of source files that an inventory lists."""

Rows = NDArray[np.int64]


def load(
    name_or_path: str,
    options: DataOptions,
    *,
    data_dir: Path | None = None,
    train_list: Path | None = None,
    test_list: Path | None = None,
    val_list: Path | None = None,
    columns: Columns = ANY,
    cache_dir: Path | None = None,
    download: bool = True,
    skip_bad_images: bool = False,
    decode_limit: int = 32 * 2**30,
) -> Dataset:
    """Load a dataset and split it into training, validation and test sets.

    A user's dataset that comes with training, validation and test sets keeps them; otherwise
    validation and test are halves of the original test set.

    Args:
        name_or_path: A name of ``names()``, or a folder of Hugging Face style image Parquet or
            in torchvision's ImageFolder layout.
        options: Classes, long tail, limit, image size and split. Without an imbalance, a ``-lt``
            name uses its default.
        data_dir: Folder searched first for a named dataset, before ``$RKD_DATA_DIR`` and the
            cache.
        train_list: Text file with ``path label`` on each line, paths relative to the dataset's
            folder: the training images in their order. The dataset is named after it. Requires
            ``test_list``.
        test_list: The same for the original test set.
        val_list: The same for a validation set; without it, the original test set is halved.
        columns: Parquet columns of labels and images, if there are several candidates.
        cache_dir: Folder for decoded images and downloads; None for ``$RKD_CACHE_DIR`` or
            the user's cache folder.
        download: Whether CIFAR may be downloaded if it is not found.
        skip_bad_images: Leave out (and count) images that cannot be decoded, rather than stop.
        decode_limit: Maximum bytes of decoded pixels. A larger source of encoded images is
            streamed; a larger source of arrays (CIFAR, digits) is refused.

    Raises:
        UserError: The input is invalid; the message says what would be valid.

    >>> load("digits", DataOptions()).class_counts("train").tolist()
    [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
    """
    if options.image_size is not None and options.image_size > LARGEST_SIDE:
        raise UserError(
            f"`image_size` {options.image_size} is too large: at most {LARGEST_SIDE} pixels a side"
        )
    if (train_list is None) != (test_list is None):
        raise UserError("`train_list` and `test_list` go together: give both, or neither")
    if val_list is not None and train_list is None:
        raise UserError("`val_list` goes with `train_list` and `test_list`: give all three")
    name = display_name(name_or_path)
    if not is_plain(name):
        raise UserError(
            f"`name_or_path`: the folder name {escaped(name)} has bytes that are not UTF-8, or "
            "control characters: rename it"
        )
    location = _locate(
        name_or_path,
        None
        if train_list is None or test_list is None
        else ImageLists(train_list, test_list, val_list),
        columns,
        data_dir,
        cache_dir or cache.default_folder(),
        download,
    )
    how = Options(options.image_size, skip_bad_images, decode_limit)
    if location is None:
        prepared = prepare_in_memory(digits.read(), how, "digits")
    else:
        prepared = prepare(location, how, cache_dir or cache.default_folder())
    chosen = draw_classes(len(prepared.class_names), options.classes, options.class_seed)
    label_of = np.full(len(prepared.class_names), -1)
    label_of[chosen] = np.arange(len(chosen))
    labels = {split: label_of[images.labels] for split, images in prepared.splits.items()}
    train_labels = labels["train"]
    of_chosen = np.flatnonzero(train_labels >= 0)
    imbalance = options.imbalance
    kept = training_rows(
        train_labels[of_chosen],
        len(chosen),
        imbalance=default_imbalance(name_or_path) if imbalance is None else imbalance,
        profile=options.profile,
        limit=options.limit_train,
        seed=options.subset_seed,
    )
    kept = of_chosen[kept]
    val, test = _held_out(labels, options, name)
    of_val = "val" if "val" in labels else "test"

    def cut(split: str, rows: Rows) -> ImageSet | StreamedImageSet:
        return replace(prepared.splits[split].subset(rows), labels=labels[split][rows])

    def in_source(split: str, rows: Rows) -> Rows:
        skipped = prepared.skipped[split]
        return np.delete(np.arange(len(labels[split]) + len(skipped)), skipped)[rows]

    dataset = Dataset(
        name=name if train_list is None else name_of_lists(train_list, name),
        class_names=tuple(prepared.class_names[label] for label in chosen),
        train=cut("train", kept),
        val=cut(of_val, val),
        test=cut("test", test),
        fingerprint=prepared.fingerprint,
        skipped_images=sum(map(len, prepared.skipped.values())),
        train_indices=in_source("train", kept),
        val_indices=in_source(of_val, val),
        test_indices=in_source("test", test),
        decoding=prepared.decoding,
        provenance=prepared.provenance,
        inventory=_inventory(prepared, () if location is None else location.files),
    )
    _warn(dataset)
    return dataset


def _inventory(prepared: Prepared, files: Listing) -> Inventory:
    classes = len(prepared.class_names)
    counts = {
        split: tuple(np.bincount(images.labels, minlength=classes).tolist())
        for split, images in prepared.splits.items()
    }
    return Inventory(prepared.class_names, counts, files if len(files) <= MOST_FILES else ())


def _held_out(labels: Mapping[str, Rows], options: DataOptions, name: str) -> tuple[Rows, Rows]:
    """Return the rows of validation and of test in their splits of the source.

    Raises:
        UserError: There are too few images, or the user asked to halve a test set although the
            source has a validation set.
    """
    tested = np.flatnonzero(labels["test"] >= 0)
    if "val" not in labels:
        val, test = halve(labels["test"][tested], options.split_seed, options.stratified)
        return tested[val], tested[test]
    for option, given in (
        ("`stratified`", options.stratified),
        ("`split_seed`", options.split_seed != 0),
    ):
        if given:
            raise UserError(
                f"{option} is for halving a test set, and {name} has a validation set of its own: "
                f"leave {option} out"
            )
    validated = np.flatnonzero(labels["val"] >= 0)
    for split, rows in (("val", validated), ("test", tested)):
        if len(rows) == 0:
            raise UserError(
                f"{name}: the {SPLIT_ADJECTIVES[split]} split has no image of the chosen classes"
            )
    return validated, tested


def _locate(
    name_or_path: str,
    image_lists: ImageLists | None,
    columns: Columns,
    data_dir: Path | None,
    cache_folder: Path,
    download: bool,
) -> Location | None:
    """Return the location of the data; None for the digits, which are built in."""
    name = name_or_path.removesuffix(LONG_TAIL)
    try:
        if data_dir is not None and not expanded(data_dir).is_dir():
            raise UserError(f"`data_dir` {data_dir} is not a folder")
        if columns != ANY and (image_lists is not None or name == "digits"):
            raise UserError("`columns` are for Parquet")
        if image_lists is not None:
            if default_imbalance(name_or_path) is not None:
                raise UserError(
                    f"{name_or_path} is cut to a long tail of its own: with an image list, "
                    f"give `name_or_path` {name}"
                )
            return locate.listed(name_or_path, image_lists, data_dir, cache_folder)
        if name == "digits":
            return None
        if name in REGISTRY:
            return locate.named(name, data_dir, cache_folder, download, columns)
        return locate.path(name_or_path, columns)
    except OSError as error:
        raise unreadable(error, name_or_path) from error


def _warn(dataset: Dataset) -> None:
    for line in dataset.provenance.warnings:
        logger.warning("%s: %s", dataset.name, line)
    if dataset.skipped_images:
        skipped = counted(dataset.skipped_images, "undecodable image")
        logger.warning("%s: %s skipped", dataset.name, skipped)
    if (constant := dataset.decoding.constant_images()) is not None:
        logger.warning("%s: %s", dataset.name, constant)
    for split in ("val", "test"):
        absent = np.flatnonzero(dataset.class_counts(split) == 0)
        if len(absent):
            logger.warning(
                "%s: %d of %s (the first is %s) %s no image in %s, so its accuracy there is "
                "unknown",
                dataset.name,
                len(absent),
                counted(dataset.classes, "class", "classes"),
                dataset.class_names[absent[0]],
                "has" if len(absent) == 1 else "have",
                split,
            )
