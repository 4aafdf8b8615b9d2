"""Loading of published weights from a local file.

Importing this module does not import torch.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.models.build import outline
from rkd_core.models.registry import REGISTRY
from rkd_core.models.sources.identity import Identity
from rkd_core.models.sources.reference import is_foreign
from rkd_core.models.weight_files import Stored, listed, read
from rkd_core.storage.tensors import serialize

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.models.base import Network
    from rkd_core.specs import Normalization

__all__ = ["Pretrained", "load_pretrained", "own_weights", "read_pretrained"]

_COUNTER = "num_batches_tracked"  # counter of batch norm; unused, and absent from older files
_COUNTS = (_COUNTER, "total_ops", "total_params", "n_averaged")  # counters, not weights
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Parts of names that wrappers such as DataParallel and ``torch.compile`` insert."""
_AVERAGED = re.compile(r"(^|[._])(ema|swa|averaged)([._]|$)")
_SHARD = re.compile(r"-\d+-of-\d+\.")


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Contents of a weight file, checked against a network."""

    digest: str
    """SHA-256 of the file."""
    tensors: dict[str, Tensor]
    """Finite tensors by the names of the network, in float32 on the CPU."""
    classes: int
    """Number of classes of its classifier."""
    normalization: Normalization | None
    """Normalization that published weights require; None for weights of this project."""
    notes: tuple[str, ...] = ()
    """Notes for the user on how the file was read."""


@dataclass(frozen=True, eq=False)
class _StateDict:
    """Tensors of a network in a file.

    Attributes:
        tensors: Tensors by their names in the file, without the parts that wrappers add.
        names: Name in the file for each tensor of the network.
        published: Whether these are the names of published weights.
        notes: Notes on what was selected and left out.
    """

    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]
    published: bool
    notes: tuple[str, ...]


def load_pretrained(
    path: Path,
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    digest: str | None = None,
) -> Network:
    """Return a network with the weights of a file, in float32 on the CPU and in evaluation mode.

    Tensors are named as in torchvision's files (``fc.weight``) or as in the artifacts of this
    project (``classifier.weight``), with any prefixes and keys that DataParallel,
    ``torch.compile``, Lightning or timm add. Only tensors are unpickled.

    Args:
        path: A state dict, or a checkpoint with one, of ``torch.save`` or safetensors. If it
            holds weights and their running average, the average is used.
        architecture: One of the names of :func:`rkd_core.models.architectures`.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels; see :func:`rkd_core.models.build`.
        digest: Digest of a network from outside the registry.

    Raises:
        UserError: The file cannot be read, or its tensors do not fit the network; the message
            names missing or unexpected tensors, or the first of a wrong shape or not finite.
    """
    network = outline(architecture, classes, channels, image_size, digest)
    given = _state_dict(path, read(path)[1], network)
    fitted = _fitted(path, given, network, architecture, classes, channels)
    network.load_state_dict(fitted, assign=True)
    return network.eval()


def read_pretrained(
    path: Path,
    architecture: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    network_digest: str | None = None,
) -> Pretrained:
    """Return the weights of a file whose classifier may have any number of classes.

    Arguments and errors are those of :func:`load_pretrained`; ``classes`` is the number of classes
    of the data.
    """
    digest, stored = read(path)
    network = outline(architecture, classes, channels, image_size, network_digest)
    given = _state_dict(path, stored, network)
    final = f"{network.classifier_name}.weight"
    found = given.tensors.get(given.names.get(final, final))
    if found is not None and _plain(found) and found.ndim == 2 and len(found) != classes:
        classes = max(len(found), 1)
        network = outline(architecture, classes, channels, image_size, network_digest)
    tensors = _fitted(path, given, network, architecture, classes, channels)
    published = given.published or is_foreign(architecture)  # whose own names are those
    normalization = network.published_normalization if published else None
    return Pretrained(digest, tensors, classes, normalization, given.notes)


def own_weights(network: Identity, classes: int) -> Pretrained | None:
    """Return the weights that a user's network brings along; None if it has random ones.

    Their digest is that of their safetensors file. Their normalization is not known.
    """
    if network.weights is None:
        return None
    digest = hashlib.sha256(serialize(network.weights)).hexdigest()
    notes = (f"{network.architecture} brings its own weights, which are used",)
    return Pretrained(digest, network.weights, classes, None, notes)


def _state_dict(path: Path, stored: Sequence[Stored], network: Network) -> _StateDict:
    """Find the tensors of a network in a file, under any keys and prefixes.

    Raises:
        UserError: The file holds several different sets of weights, none of which is a running
            average.
    """
    own = {name: name for name in network.state_dict()}
    published = {name: _published(name, network.published_names) for name in own}
    votes = [_votes(stored, names.values()) for names in (own, published)]
    most = [max(found.values(), default=0) for found in votes]
    which = int(most[1] > most[0])
    names = (own, published)[which]
    places = [place for place, count in votes[which].items() if count == most[which]]
    if not places:  # the error message then lists the tensors of the largest mapping
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
    """Count the tensors of the network at each place, a pair of mapping and name prefix."""
    wanted = {name for name in names if not name.endswith(_COUNTER)}
    votes: Counter[tuple[str, str]] = Counter()
    for one in stored:
        parts = _bare(one.name).split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in wanted:
                votes[one.folder, "".join(part + "." for part in parts[:cut])] += 1
    return votes


def _below(stored: Sequence[Stored], place: tuple[str, str]) -> dict[str, Tensor]:
    """Return the tensors at a place, by their names without the prefix."""
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
    """Choose among places that hold equally many tensors of the network; return notes as well.

    Raises:
        UserError: The weights there differ, and none is a running average.
    """
    shown = {place: ".".join(filter(None, place)).strip(".") or "the outermost" for place in places}
    averaged = [place for place in places if _AVERAGED.search(shown[place])]
    places = sorted(averaged or places, key=lambda place: (len(shown[place]), shown[place]))
    taken, *others = ({n: t for n, t in _below(stored, p).items() if n in names} for p in places)
    if not all(_equal(taken, other) for other in others):
        raise UserError(
            f"{path} holds several sets of weights that differ ({listed([*shown.values()])}): "
            "save only the intended one"
        )
    left = [text for place, text in shown.items() if place not in places]
    return places[0], [f"{path}: used {shown[places[0]]}, not {listed(left)}"] if left else []


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
    path: Path,
    given: _StateDict,
    network: Network,
    architecture: str,
    classes: int,
    channels: int,
) -> dict[str, Tensor]:
    """Return the tensors of a file by the names of the network, after checking all of them."""
    import torch

    needed = network.state_dict()
    what = f"{architecture} for {classes} classes of {channels}-channel images"
    _check_names(path, given, what)
    weights: dict[str, Tensor] = {}
    for ours, like in needed.items():
        theirs = given.names[ours]
        if theirs not in given.tensors:  # only a counter can be missing
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
            raise UserError(f"{path} is damaged or diverged: not all values of {theirs} are finite")
    return weights


def _check_names(path: Path, given: _StateDict, what: str) -> None:
    """Refuse a file with missing or unexpected tensors."""
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
    """Return whether a tensor is dense and has data: not sparse, quantized, nested or meta."""
    import torch

    odd = tensor.is_nested or tensor.is_quantized or tensor.layout is not torch.strided
    return not odd and tensor.device.type == "cpu"


def _published(name: str, prefixes: tuple[tuple[str, str], ...]) -> str:
    """Return the name of a tensor in published weights."""
    for ours, theirs in prefixes:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def _other_stem(architecture: str, found: Tensor, needed: Tensor) -> str:
    """Return a hint if the file has the ImageNet stem and the network the stem for small images."""
    other = f"{architecture}_imagenet"
    seven = found.shape[2:] == (7, 7) and needed.shape[2:] == (3, 3)
    return f"; {other} has that stem at every image size" if seven and other in REGISTRY else ""


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
