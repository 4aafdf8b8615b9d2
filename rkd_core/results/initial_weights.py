"""Initial weights of trainings, kept in the results folder so that every machine finds them.

``initial_weights/<SHA-256 of the source file>/weights.safetensors``, a bundle. The digest is the
name that a spec gives them, and no pickle is read from the results folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from rkd_core.errors import UserError
from rkd_core.storage import bundles, files, tensors
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    from torch import Tensor


__all__ = ["FILE", "FOLDER", "keep", "load"]

FOLDER, FILE = "initial_weights", "weights.safetensors"


class Weights(Protocol):
    """Tensors of a file, such as :class:`rkd_core.models.Pretrained`."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        ...

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors by the names of the network."""
        ...


def keep(out: Location, weights: Weights) -> str:
    """Store weights in a results folder, unless they are there already.

    Returns:
        The value of ``initial_weights`` in a ``TrainingSpec``.

    Raises:
        OSError: They cannot be written.
    """
    path = out / FOLDER / weights.digest
    try:
        bundles.check(path, weights.digest, (FILE,))
    except UserError:  # missing or damaged
        files.remove(path)
        tensors.write(path, weights.digest, FILE, weights.tensors)
    return weights.digest


def load(out: Location, digest: str) -> dict[str, Tensor]:
    """Return weights of a results folder, by the names of the network.

    Raises:
        UserError: They are missing or damaged.
    """
    return tensors.read(out / FOLDER / digest, digest, FILE)
