"""Tensors as safetensors, alone and as the one file of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rkd_core.errors import UserError, first_line
from rkd_core.storage import bundles
from rkd_core.storage.files import Location, local_path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["parse", "read", "serialize", "write"]


def serialize(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return tensors, on any device, as the content of a safetensors file."""
    from safetensors.torch import save

    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        # The format holds no tensor twice: tied weights are copied.
        stored[name] = value.clone() if value.untyped_storage().data_ptr() in seen else value
        seen.add(value.untyped_storage().data_ptr())
    return save(stored, metadata)


def parse(content: bytes, path: Location) -> dict[str, Tensor]:
    """Return the tensors in the content of a safetensors file, on the CPU.

    Args:
        content: All of the file.
        path: The file, for messages.

    Raises:
        UserError: The file is of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is of another version: {first_line(error)}") from error


def write(path: Location, run_id: str, name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Commit a bundle of one file, unless one is committed there; return whether this call did."""
    return bundles.write(path, run_id, {name: serialize(tensors)})


def read(path: Location, run_id: str, name: str, *, mapped: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a bundle after comparing the file with the manifest.

    Args:
        path: The bundle's folder.
        run_id: The run of the bundle.
        name: Its file.
        mapped: Map a file of this machine into memory instead of reading it.

    Raises:
        UserError: The bundle is missing, damaged or of another format; the message names the file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = local_path(path) if mapped else None
    if folder is None:
        return parse(bundles.read(path, run_id, (name,))[name], path / name)
    bundles.check(path, run_id, (name,))
    try:
        return load_file(folder / name)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / name} is of another version: {first_line(error)}") from error
