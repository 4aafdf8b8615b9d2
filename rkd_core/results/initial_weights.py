"""Weights that teachers start from, kept in the results folder.

``initial_weights/<SHA-256 of the file they came from>/weights.safetensors``, a bundle. So every
machine that trains finds them, no pickle is read there, and what a spec names is what it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rkd_core.errors import UserError
from rkd_core.storage import bundles, files

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


def keep(out: Path, weights: Weights) -> str:
    """Put weights into a results folder, unless they are there already.

    Returns:
        What a ``TrainingSpec`` calls them.

    Raises:
        OSError: They cannot be written.
    """
    from safetensors.torch import save

    path = out / FOLDER / weights.digest
    try:
        bundles.check(path, weights.digest, (FILE,))
    except UserError:  # none yet, or damaged
        files.remove(path)
        bundles.write(path, weights.digest, {FILE: save(dict(weights.tensors))})
    return weights.digest


def load(out: Path, digest: str) -> dict[str, Tensor]:
    """Weights of a results folder, by the names of the network that they were read for.

    Raises:
        UserError: They are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    path = out / FOLDER / digest
    try:
        weights: dict[str, Tensor] = deserialize(bundles.read(path, digest, (FILE,))[FILE])
    except SafetensorError as error:
        raise UserError(f"{path / FILE} is of another version: {error}") from error
    return weights
