"""Index of the images in tar shards, kept in a cache entry."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from rkd_core.datasets.readers.base import Source
from rkd_core.datasets.readers.tar_shards import TarImages
from rkd_core.text import json_text

__all__ = ["load_index", "save_indices"]


def save_indices(source: Source, root: Path, folder: Path) -> list[str]:
    """Write the index of each split of shards to a folder.

    Args:
        source: Source of shards; nothing is written for other sources.
        root: Folder that the names of shards are relative to.
        folder: Folder of the cache entry.

    Returns:
        A digest of the indices, since shards with the same content may differ in them.
    """
    digests = []
    for name, split in source.splits.items():
        if isinstance(images := split.images, TarImages):
            files = json.dumps([str(file.relative_to(root)) for file in images.files])
            (folder / f"{name}.shards.json").write_text(files, encoding="utf-8")
            np.save(folder / f"{name}.members.npy", images.members)
            content = files.encode() + images.members.tobytes()
            digests.append(hashlib.sha256(content).hexdigest())
    return digests


def load_index(root: Path, folder: Path, split: str) -> TarImages:
    """Return the images of a split of shards, given the arguments of ``save_indices``."""
    files = json_text.parse((folder / f"{split}.shards.json").read_text(encoding="utf-8"))
    members = np.load(folder / f"{split}.members.npy")
    return TarImages(tuple(root / name for name in files), members)
