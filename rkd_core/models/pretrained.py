"""Published weights from a local file. Importing it imports no torch."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rkd_core.errors import UserError
from rkd_core.models.building import outline
from rkd_core.models.registry import REGISTRY

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.models.network import Network
    from rkd_core.specs import Normalization

__all__ = ["Pretrained", "load_pretrained", "read_pretrained"]

_COUNTER = "num_batches_tracked"  # of batch norm; older files lack it, and nothing here reads it
_CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """What a file of weights holds, checked against a network."""

    digest: str
    """SHA-256 of the file."""
    tensors: dict[str, Tensor]
    """By the network's own names, in float32 on the CPU, finite."""
    classes: int
    """That its classifier tells apart."""
    normalization: Normalization | None
    """What the network's published weights want of images; None for weights of this project."""


def load_pretrained(
    path: Path, architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> Network:
    """A network with the weights of a file, in float32 on the CPU and in evaluation mode.

    The file's tensors are named as torchvision publishes them (``fc.weight``) or as this
    project's artifacts do (``classifier.weight``). Nothing but tensors is unpickled.

    Args:
        path: A state dict: ``.pth`` or ``.pt`` of ``torch.save``, or ``.safetensors``.
        architecture: One of the names of :func:`rkd_core.models.architectures`.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels; see :func:`rkd_core.models.build`.

    Raises:
        UserError: The file cannot be read, or its tensors are not this network's; the line names
            the first that is missing, unexpected, of another shape or not finite.
    """
    network = outline(architecture, classes, channels, image_size)
    weights = _fitted(path, _read(path)[1], network, architecture, classes, channels)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def read_pretrained(
    path: Path, architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> Pretrained:
    """The weights of a file whose classifier may be for any number of classes.

    Args and raises: as :func:`load_pretrained`; ``classes`` are those wanted.
    """
    digest, given = _read(path)
    network = outline(architecture, classes, channels, image_size)
    own = _names(network, given)[0]
    found = given.get(own[_CLASSIFIER[0]])
    if found is not None and found.ndim == 2 and len(found) != classes:
        classes = max(len(found), 1)
        network = outline(architecture, classes, channels, image_size)
    tensors = _fitted(path, given, network, architecture, classes, channels)
    published = _names(network, given)[1]
    return Pretrained(
        digest, tensors, classes, network.published_normalization if published else None
    )


def _names(network: Network, given: Mapping[str, Tensor]) -> tuple[dict[str, str], bool]:
    """How the file names each of the network's tensors, and whether that is as published."""
    own = {name: name for name in network.state_dict()}
    published = {name: _published(name, network.published_names) for name in own}
    known = [len(given.keys() & names.values()) for names in (own, published)]
    return (published, True) if known[1] > known[0] else (own, False)


def _fitted(
    path: Path,
    given: Mapping[str, Tensor],
    network: Network,
    architecture: str,
    classes: int,
    channels: int,
) -> dict[str, Tensor]:
    """The file's tensors by the network's names, each of which it has."""
    import torch

    what = f"{architecture} for {classes} classes of {channels}-channel images"
    names = _names(network, given)[0]
    weights: dict[str, Tensor] = {}
    for ours, needed in network.state_dict().items():
        theirs = names[ours]
        if theirs not in given and ours.endswith(_COUNTER):
            weights[ours] = torch.zeros(needed.shape, dtype=needed.dtype)
            continue
        if theirs not in given:
            raise UserError(f"{path} is not of {what}: it has no {theirs}")
        tensor = given[theirs]
        if tensor.shape != needed.shape:
            raise UserError(
                f"{path} is not of {what}: {theirs} is {_size(tensor)}, not {_size(needed)}"
                + _other_stem(architecture, tensor, needed)
            )
        if tensor.is_floating_point() != needed.is_floating_point():
            raise UserError(f"{path} is not of {what}: {theirs} holds {tensor.dtype}")
        weights[ours] = tensor.to(needed.dtype, memory_format=torch.contiguous_format)
        if not torch.isfinite(weights[ours]).all():
            raise UserError(f"{path} is damaged, or diverged: not all of {theirs} is finite")
    for theirs in given:
        if theirs not in names.values():
            raise UserError(f"{path} is not of {what}, which has no {theirs}")
    return weights


def _read(path: Path) -> tuple[str, Mapping[str, Tensor]]:
    """SHA-256 of a file, and its tensors by name."""
    import torch
    from safetensors.torch import load

    if path.suffix not in {".pth", ".pt", ".safetensors"}:
        raise UserError(
            f"{path} is no file of weights: its name must end in .pth, .pt or .safetensors"
        )
    try:
        if not path.is_file():
            raise UserError(f"{path} is not there, or no file: give a file of weights")
        content = path.read_bytes()
        found: Any = (
            load(content)
            if path.suffix == ".safetensors"
            else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        )
    except UserError:
        raise
    except pickle.UnpicklingError as error:  # whose own message says how to run it all the same
        reason = "it is damaged, or holds more than tensors"
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    except Exception as error:  # what damaged files raise is open-ended
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} cannot be read as weights: {reason}") from error
    if not isinstance(found, Mapping):
        raise UserError(f"{path} holds a {type(found).__name__}, not a state dict")
    for name, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"{path} is not a state dict: {name!r} is a {type(value).__name__}, not a tensor"
            )
        if not _plain(value):
            raise UserError(f"{path} is no file of weights: {name} is not stored as plain numbers")
    return hashlib.sha256(content).hexdigest(), found


def _plain(tensor: Tensor) -> bool:
    """Whether it is numbers in memory, rather than sparse, quantised or without content."""
    import torch

    odd = tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided
    return not odd and tensor.device.type == "cpu"


def _published(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    """What published weights call a tensor of ours."""
    for ours, theirs in prefixes:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _other_stem(architecture: str, found: Tensor, needed: Tensor) -> str:
    """A hint where a small image has another stem than the file."""
    other = f"{architecture}_imagenet"
    seven = found.shape[2:] == (7, 7) and needed.shape[2:] == (3, 3)
    return f"; {other} has that stem at every image size" if seven and other in REGISTRY else ""


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
