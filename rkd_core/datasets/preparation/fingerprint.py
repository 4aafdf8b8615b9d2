"""Fingerprint of a source: SHA-256 of its content, independent of its path.

It covers class names, labels and the encoded images in their order. It does not depend on the
names of the folder, files or columns, on shards or on compression. It changes with any byte, label
or change of order, with the list of images that were skipped as undecodable, and with decoding
rules that change pixels.

Folders of image files that are too large to decode are also too large to hash: their
fingerprint covers the paths and sizes of the files instead of their contents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from rkd_core.datasets.readers.base import Encoded, Source, Split
from rkd_core.datasets.readers.image_folder import FileImages

__all__ = ["Fingerprint", "of_listing"]


class Fingerprint:
    """Digest of a source, updated while the source is read for another purpose."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        self._digest = hashlib.sha256(json.dumps(["content", *class_names]).encode())

    def reading(self, split: Split) -> Iterator[Encoded]:
        """Add the labels of a split to the digest; yield its images, adding each of them."""
        self._digest.update(len(split.labels).to_bytes(8, "little"))
        self._digest.update(split.labels.astype("<i8").tobytes())
        for encoded in split.images:
            shape = encoded.shape if isinstance(encoded, np.ndarray) else ()
            data = encoded.tobytes() if isinstance(encoded, np.ndarray) else encoded
            self._digest.update(np.asarray([len(data), *shape], dtype="<i8").tobytes())
            self._digest.update(data)
            yield encoded

    def value(self, skipped: dict[str, list[int]], changes: dict[str, Any]) -> str:
        """Return the digest of the content, the skipped rows and the decoding rules, if any.

        Args:
            skipped: Rows of each split that were left out.
            changes: Decoding rules that change pixels, see ``Decoding.changes``.
        """
        content = self._digest.hexdigest()
        if any(skipped.values()):
            content = _digest([content, skipped])
        return _digest([content, changes]) if changes else content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def of_listing(source: Source, skipped: dict[str, list[int]], changes: dict[str, Any]) -> str:
    """Return the fingerprint of a source of image files, computed from paths and sizes.

    Args:
        source: A source of image files.
        skipped: Rows of each split that were left out.
        changes: Decoding rules that change pixels, see ``Decoding.changes``.
    """
    listing = [
        [[file.path, file.size] for file in split.images.files]
        for split in source.splits.values()
        if isinstance(split.images, FileImages)
    ]
    labels = [split.labels.tolist() for split in source.splits.values()]
    content = _digest(["listing", source.class_names, labels, listing, skipped])
    return _digest([content, changes]) if changes else content
