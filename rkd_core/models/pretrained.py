"""Published weights from a local file. Importing it imports no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.models.build import outline
from rkd_core.models.registry import REGISTRY
from rkd_core.models.weight_files import Stored, listed, read

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.models.base import Network
    from rkd_core.specs import Normalization

__all__ = ["Pretrained", "load_pretrained", "read_pretrained"]

_COUNTER = "num_batches_tracked"  # of batch norm; older files lack it, and nothing here reads it
_COUNTS = (_COUNTER, "total_ops", "total_params", "n_averaged")  # counters of tools, no weights
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names that wrappers such as DataParallel and ``torch.compile`` insert."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged)([._]|$)")
_SHARD = re.compile(r"-\d+-of-\d+\.")
_CLASSIFIER = ("classifier.weight", "classifier.bias")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Contents of a weight file, checked against a network."""

    digest: str
    """SHA-256 of the file."""
    tensors: dict[str, Tensor]
    """By the network's own names, in float32 on the CPU, finite."""
    classes: int
    """That its classifier tells apart."""
    normalization: Normalization | None
    """What the network's published weights want of images; None for weights of this project."""
    notes: tuple[str, ...] = ()
    """Notes for the user on how the file was read."""


@dataclass(frozen=True, eq=False)
class _StateDict:
    """The network's tensors in a file.

    Attributes:
        tensors: Tensors by the file's names, without the parts that wrappers add.
        names: The file's name of each of the network's tensors.
        published: Whether these names are those of published weights.
        notes: Notes on what was chosen and left out.
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    published: bool
    notes: tuple[str, ...]


def load_pretrained(
    path: Path, architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> Network:
    """A network with the weights of a file, in float32 on the CPU and in evaluation mode.

    The file's tensors are named as torchvision publishes them (``fc.weight``) or as this
    project's artifacts do (``classifier.weight``), below any prefixes and keys that DataParallel,
    ``torch.compile``, Lightning or timm put before them. Nothing but tensors is unpickled.

    Args:
        path: A state dict, or a checkpoint with one, of ``torch.save`` or safetensors. If it holds
            weights and their running average, the average is used.
        architecture: One of the names of :func:`rkd_core.models.architectures`.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels; see :func:`rkd_core.models.build`.

    Raises:
        UserError: The file cannot be read, or its tensors are not this network's; the line names
            those that are missing or unexpected, or the first of another shape or not finite.
    """
    network = outline(architecture, classes, channels, image_size)
    given = _state_dict(path, read(path)[1], network)
    network.load_state_dict(_fitted(path, given, network, architecture, channels), assign=True)
    return network.eval()


def read_pretrained(
    path: Path, architecture: str, classes: int, channels: int, image_size: tuple[int, int]
) -> Pretrained:
    """The weights of a file whose classifier may be for any number of classes.

    Args and raises: as :func:`load_pretrained`; ``classes`` are those wanted.
    """
    digest, stored = read(path)
    network = outline(architecture, classes, channels, image_size)
    given = _state_dict(path, stored, network)
    found = given.tensors.get(given.names[_CLASSIFIER[0]])
    if found is not None and _plain(found) and found.ndim == 2 and len(found) != classes:
        classes = max(len(found), 1)
        network = outline(architecture, classes, channels, image_size)
    tensors = _fitted(path, given, network, architecture, channels)
    normalization = network.published_normalization if given.published else None
    return Pretrained(digest, tensors, classes, normalization, given.notes)


def _state_dict(path: Path, stored: Sequence[Stored], network: Network) -> _StateDict:
    """Find the network's tensors in a file, under any keys and prefixes.

    Raises:
        UserError: The file has several sets of them that differ, none of them a running average.
    """
    own = {name: name for name in network.state_dict()}
    published = {name: _published(name, network.published_names) for name in own}
    votes = [_votes(stored, names.values()) for names in (own, published)]
    most = [max(found.values(), default=0) for found in votes]
    which = int(most[1] > most[0])
    names = (own, published)[which]
    places = [place for place, count in votes[which].items() if count == most[which]]
    if not places:  # the message lists what is in the largest mapping
        folders = Counter(one.folder for one in stored)
        places = [(folder, "") for folder, _ in folders.most_common(1)] or [("", "")]
    place, notes = _chosen(path, places, stored, set(names.values()))
    tensors = _below(stored, place)
    counts = [n for n in tensors if n.endswith(_COUNTS) and n not in names.values()]
    for name in counts:
        del tensors[name]
    left = [
        o.name for o in stored if o.folder == place[0] and not _bare(o.name).startswith(place[1])
    ]
    left += [place[1] + name for name in counts if not name.endswith(_COUNTER)]
    if left:
        notes.append(f"{path}: not used: {listed(left)}")
    return _StateDict(tensors, names, which == 1, tuple(notes))


def _votes(stored: Sequence[Stored], names: Iterable[str]) -> Counter[tuple[str, str]]:
    """Count the network's tensors at each place: the mapping that holds them, and their prefix."""
    wanted = {name for name in names if not name.endswith(_COUNTER)}
    votes: Counter[tuple[str, str]] = Counter()
    for one in stored:
        parts = _bare(one.name).split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in wanted:
                votes[one.folder, "".join(part + "." for part in parts[:cut])] += 1
    return votes


def _below(stored: Sequence[Stored], place: tuple[str, str]) -> dict[str, Tensor]:
    """Return the tensors at a place by their names without its prefix."""
    folder, prefix = place
    found: dict[str, Tensor] = {}
    for one in stored:
        name = _bare(one.name)
        if one.folder == folder and name.startswith(prefix):
            found.setdefault(name.removeprefix(prefix), one.tensor)
    return found


def _chosen(
    path: Path, places: list[tuple[str, str]], stored: Sequence[Stored], names: set[str]
) -> tuple[tuple[str, str], list[str]]:
    """Choose one of the places that hold equally many of the network's tensors, with a note.

    Raises:
        UserError: They differ, and not because one is a running average of another.
    """
    shown = {place: ".".join(filter(None, place)).strip(".") or "the outermost" for place in places}
    averaged = [place for place in places if _AVERAGED.search(shown[place])]
    places = sorted(averaged or places, key=lambda place: (len(shown[place]), shown[place]))
    taken, *others = ({n: t for n, t in _below(stored, p).items() if n in names} for p in places)
    if not all(_equal(taken, other) for other in others):
        raise UserError(
            f"{path} holds several sets of weights that differ ({listed([*shown.values()])}): "
            "save the one that is meant alone"
        )
    left = [text for place, text in shown.items() if place not in places]
    return places[0], [f"{path}: took {shown[places[0]]}, not {listed(left)}"] if left else []


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether two sets of weights are numerically equal."""
    import torch

    return one.keys() == other.keys() and all(
        _plain(value) and _plain(other[name]) and torch.equal(value, other[name])
        for name, value in one.items()
    )


def _bare(name: str) -> str:
    """Return a tensor's name without the parts that wrappers insert."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _fitted(
    path: Path, given: _StateDict, network: Network, architecture: str, channels: int
) -> dict[str, Tensor]:
    """Return the file's tensors by the network's names; the file must have all of them."""
    import torch

    needed = network.state_dict()
    classes = len(needed[_CLASSIFIER[0]])
    what = f"{architecture} for {classes} classes of {channels}-channel images"
    _check_names(path, given, what)
    weights: dict[str, Tensor] = {}
    for ours, like in needed.items():
        theirs = given.names[ours]
        if theirs not in given.tensors:  # a counter may be missing
            weights[ours] = torch.zeros(like.shape, dtype=like.dtype)
            continue
        tensor = given.tensors[theirs]
        if not _plain(tensor):
            raise UserError(f"{path} is not a weight file: {theirs} is not stored as plain numbers")
        if tensor.shape != like.shape:
            raise UserError(
                f"{path} is not of {what}: {theirs} is {_size(tensor)}, not {_size(like)}"
                + _other_stem(architecture, tensor, like)
            )
        if tensor.is_floating_point() != like.is_floating_point():
            raise UserError(f"{path} is not of {what}: {theirs} holds {tensor.dtype}")
        weights[ours] = tensor.to(like.dtype, memory_format=torch.contiguous_format)
        if not torch.isfinite(weights[ours]).all():
            raise UserError(f"{path} is damaged, or diverged: not all of {theirs} is finite")
    return weights


def _check_names(path: Path, given: _StateDict, what: str) -> None:
    """Refuse a file that lacks tensors of the network or has extra ones."""
    wanted = list(given.names.values())
    missing = [n for n in wanted if n not in given.tensors and not n.endswith(_COUNTER)]
    unexpected = [name for name in given.tensors if name not in wanted]
    if not missing and not unexpected:
        return
    lacks, has = f"it has no {listed(missing)}", f"has no {listed(unexpected)}"
    if not missing:
        raise UserError(f"{path} is not of {what}, which {has}")
    hint = "; it is one of several files with the weights" if _SHARD.search(path.name) else ""
    more = f"; the network {has}" if unexpected else ""
    raise UserError(f"{path} is not of {what}: {lacks}{more}{hint}")


def _plain(tensor: Tensor) -> bool:
    """Return whether a tensor is dense numbers in memory, not sparse, quantized or without data."""
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
