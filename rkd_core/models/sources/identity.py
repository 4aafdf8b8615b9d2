"""Identity of networks from outside the registry, found by building and trying them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rkd_core import plugins
from rkd_core.errors import UserError
from rkd_core.models.sources import makers
from rkd_core.models.sources.reference import Reference, parse
from rkd_core.plugins import code as sources
from rkd_core.plugins.code import Code
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rkd_core.models.sources.foreign import ForeignNetwork
    from rkd_core.specs import Normalization

__all__ = ["Identity", "build", "compare", "identified_parameters", "identify", "load"]

T = TypeVar("T")

_IMAGES = 2  # images of the forward passes that try a network
_NORMALIZATIONS: dict[tuple[tuple[float, ...], tuple[float, ...]], Normalization] = {
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)): "imagenet",
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)): "symmetric",
}


class Identity(NamedTuple):
    """A network that was built and tried."""

    architecture: str
    """Name in specs: without the folder of a user's file."""
    digest: str
    """``network_digest`` of specs: SHA-256 of the names and shapes of parameters and buffers, and
    of a user's code."""
    code: Code | None
    """Files of a user's network; None for a library's."""
    weights: dict[str, Tensor] | None = None
    """Weights that the network brings along, by the names of its state dict; None if most of them
    depend on the seed."""


class _Known(NamedTuple):
    make: makers.Maker
    code: Code | None


_known: dict[tuple[str, str | None], _Known] = {}
"""Makers of users' networks in this process, by architecture and digest."""
_parameters: dict[str, int] = {}
"""Numbers of parameters of the networks that were identified in this process."""
_finals: dict[tuple[object, ...], str | None] = {}
"""Names of the final linear layers that were found in this process."""


def identify(reference: str, classes: int, channels: int, image_size: tuple[int, ...]) -> Identity:
    """Build a network, try it on made-up images, and return its identity.

    Args:
        reference: ``timm:NAME``, ``torchvision:NAME``, ``FILE.py:NAME`` or
            ``package.module:NAME``, with keyword arguments in parentheses or not, and stages in
            brackets or not.
        classes: Number of logits.
        channels: Channels of the images.
        image_size: Height and width in pixels.

    Raises:
        UserError: There is no such network, its code fails, its output is not
            ``(batch, classes)`` finite logits, nothing of it can be trained, it draws random
            numbers in evaluation mode or outside PyTorch's generator.
    """
    named = parse(reference)
    if named.source != "code" and len(image_size) != 2:
        raise UserError(
            f"{named.canonical} is for images, and the rows of the data are arrays of "
            f"{' x '.join(map(str, (channels, *image_size)))}: choose mlp, linear or a network of "
            "your own"
        )
    maker, code = _maker(named)
    data = classes, channels, image_size
    try:
        return _tried(named, maker, code, *data)
    except UserError as error:
        raise error if code is None else UserError(code.in_place(str(error))) from error


def _tried(
    named: Reference,
    maker: makers.Maker,
    code: Code | None,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
) -> Identity:
    """Build a network twice, try it, and return its identity."""
    import torch

    name, data = named.canonical, (classes, channels, image_size)
    first, second = (_made(maker, name, *data, seed=0) for _ in range(2))
    _require_equal(name, first.state_dict(), second.state_dict(), "weights")
    if not any(parameter.requires_grad for parameter in first.parameters()):
        raise UserError(f"{name} has no parameters to train")
    # Before it is tried, which changes running statistics.
    weights = None if code is None else _own_weights(first, _made(maker, name, *data, seed=1))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, channels, *image_size, generator=generator)
    _try(name, first, second, images, classes)
    if named.stages:
        from rkd_core.models.sources.foreign import check_stages

        check_stages(name, first, named.stages, images)
    digest = _digest(first, code)
    _known[name, digest] = _Known(maker, code)
    _parameters[name] = sum(p.numel() for p in first.parameters())
    return Identity(name, digest, code, weights)


def identified_parameters(architecture: str) -> int:
    """Return the number of parameters of a network that was identified in this process.

    Raises:
        UserError: It was not identified.
    """
    if architecture not in _parameters:
        raise UserError(f"{architecture} is not identified: call rkd_core.models.identify first")
    return _parameters[architecture]


def build(
    architecture: str,
    digest: str | None,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    *,
    seed: int,
) -> ForeignNetwork:
    """Build a network from outside the registry; the weights depend on the arguments alone.

    Args:
        architecture: Name in specs.
        digest: ``network_digest`` of the spec.
        classes: Number of logits; if it differs from that of the spec, the digest is not compared.
        channels: Channels of the images.
        image_size: Height and width in pixels.
        seed: Seed of the initialization.

    Raises:
        UserError: The code of the network is not loaded, fails, or differs from the digest, such as
            another version of timm.
    """
    from rkd_core.models.sources.final_layer import final_layer
    from rkd_core.models.sources.foreign import ForeignNetwork

    reference = parse(architecture)
    known = _known.get((architecture, digest))
    if known is None and reference.source == "code":
        raise UserError(
            f"the code of {architecture} is not loaded: call rkd_core.models.identify first, or "
            "give the results folder that holds it"
        )
    if known is None:
        known = _known[architecture, digest] = _Known(makers.from_library(reference), None)
    body = _made(known.make, architecture, classes, channels, image_size, seed=seed)
    key = architecture, digest, classes, channels, image_size
    if key not in _finals:
        _finals[key] = final_layer(body, channels, image_size)
    normalization = _normalization(body)
    return ForeignNetwork(body, architecture, _finals[key], normalization, reference.stages)


def compare(architecture: str, digest: str | None, network: nn.Module) -> None:
    """Compare a network with the digest of a spec.

    Raises:
        UserError: Its parameters or buffers have other names or shapes.
    """
    known = _known.get((architecture, digest))
    code = None if known is None else known.code
    if digest is not None and _digest(network, code) != digest:
        raise UserError(
            f"{architecture} is built with other parameters than those of its runs, such as by "
            "another version of its library: train again, or install the version of the record"
        )


def load(architecture: str, digest: str, out: Location) -> None:
    """Load the code of a network from a results folder, unless it is loaded or a library's.

    Raises:
        UserError: The code is missing, damaged or fails.
    """
    reference = parse(architecture)
    if reference.source != "code" or (architecture, digest) in _known:
        return
    code = sources.load(out, digest)
    name = reference.target.rpartition(":")[2]
    _known[architecture, digest] = _Known(_from_copy(code, name, reference), code)


def _maker(reference: Reference) -> tuple[makers.Maker, Code | None]:
    if reference.source != "code":
        return makers.from_library(reference), None
    place, _, name = reference.target.rpartition(":")
    if not place.endswith(".py"):
        plugins.load_object(reference.target)  # finds the file
    code = sources.collect(reference.target)
    try:
        # From the copy, so that what is trained is what was recorded, also if a file has changed
        # since this process imported it.
        return _from_copy(code, name, reference), code
    except UserError as error:
        makers.from_object(plugins.load_object(reference.target), reference)  # raises the cause
        raise UserError(
            f"{place} cannot be imported from a copy of it and of the Python files beside it that "
            f"it imports, which every worker loads: {code.in_place(str(error))}"
        ) from error


def _from_copy(code: Code, name: str, reference: Reference) -> makers.Maker:
    """Return the maker from stored files; that of an installed package may need other files."""
    try:
        target = code.get(name)
    except UserError:
        if reference.target.rpartition(":")[0].endswith(".py"):
            raise
        target = plugins.load_object(reference.target)
        if sources.collect(reference.target).digest != code.digest:
            raise
    make = makers.from_object(target, reference)

    def isolated(classes: int, channels: int, image_size: tuple[int, ...]) -> nn.Module:
        with code.importable():
            return make(classes, channels, image_size)

    return isolated


def _made(
    make: makers.Maker,
    name: str,
    classes: int,
    channels: int,
    image_size: tuple[int, ...],
    *,
    seed: int,
) -> nn.Module:
    """Call a maker with a seeded generator; no global random state is changed."""
    import torch
    from torch import nn
    from torch.nn.parameter import is_lazy

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        body = plugins.call(lambda: make(classes, channels, image_size), name)
        if not isinstance(body, nn.Module):
            raise UserError(f"{name} returns {_described(body)}, not a torch.nn.Module")
        if any(map(is_lazy, body.parameters())):
            with torch.no_grad():
                _call(body.eval(), torch.zeros(1, channels, *image_size), name)
    return body.float().train()


def _own_weights(one: nn.Module, other: nn.Module) -> dict[str, Tensor] | None:
    """Return the weights of a network if most are the same for another seed; None if not."""
    import torch

    same = total = 0
    for mine, yours in zip(one.parameters(), other.parameters(), strict=True):
        if mine.numel() > 1 and bool((mine != mine.flatten()[0]).any()):  # no zeros or ones
            total += mine.numel()
            same += mine.numel() * torch.equal(mine, yours)
    if 2 * same <= total:
        return None
    return {name: value.detach().clone() for name, value in one.state_dict().items()}


def _try(name: str, network: nn.Module, copy: nn.Module, images: Tensor, classes: int) -> None:
    """Try both modes of a network, and a backward pass."""
    import torch

    with torch.random.fork_rng(devices=[]):
        outputs = []
        for one in (network, copy):
            torch.default_generator.manual_seed(1)
            outputs.append(_call(one, images, name))
            _require_logits(name, outputs[-1], classes)
        _require_equal(name, {"logits": outputs[0]}, {"logits": outputs[1]}, "outputs")
        plugins.call(lambda: outputs[0].float().square().sum().backward(), name)
        network.eval()
        with torch.no_grad():
            seen = [_call(network, images, name) for _ in range(2)]
            _require_logits(name, seen[0], classes)
            if not torch.equal(*seen):
                raise UserError(
                    f"{name} returns other logits for the same images in evaluation mode: it must "
                    "draw random numbers in training mode only"
                )
            alone = _call(network, images[:1], name)
            _require_logits(name, alone, classes)


def _call(network: nn.Module, images: Tensor, name: str) -> Tensor:
    size = " x ".join(map(str, images.shape[1:]))
    kind = "images" if images.ndim == 4 else "arrays"
    return plugins.call(lambda: network(images), f"{name} on {kind} of {size}")


def _require_logits(name: str, output: object, classes: int) -> None:
    import torch

    wanted = f"logits (batch, {classes})"
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        raise UserError(f"{name} returns {_described(output)}; it must return one tensor, {wanted}")
    if output.ndim != 2 or output.shape[1] != classes:
        raise UserError(f"{name} returns {_described(output)}; it must return {wanted}")
    if not bool(torch.isfinite(output).all()):
        raise UserError(f"{name} returns logits that are not finite for images in [0, 1]")


def _require_equal(name: str, one: dict[str, Tensor], other: dict[str, Tensor], what: str) -> None:
    import torch

    for key, value in one.items():
        if key not in other or not torch.equal(value, other[key]):
            detail = f" ({key})" if what == "weights" else ""
            raise UserError(
                f"{name} has other {what}{detail} with the same seed: it must draw random numbers "
                "from PyTorch's default generator only"
            )


def _described(value: object) -> str:
    import torch

    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return f"a {kind} tensor ({', '.join(map(str, value.shape))})"
    if isinstance(value, tuple | list):
        parts = ", ".join(map(_described, value))
        return f"a {type(value).__name__} of {len(value)}: {parts}"[:200]
    if isinstance(value, dict):
        return f"a {type(value).__name__} with {', '.join(map(repr, value))}"[:200]
    return f"an object of type {type(value).__name__}" if value is not None else "None"


def _normalization(body: nn.Module) -> Normalization | None:
    """Return the normalization of the published weights of a library's network, if it says so."""

    found = getattr(body, "pretrained_cfg", None) or getattr(body, "default_cfg", None)
    if isinstance(found, dict) and "mean" in found and "std" in found:
        return _NORMALIZATIONS.get((tuple(found["mean"]), tuple(found["std"])))
    return "imagenet" if type(body).__module__.startswith("torchvision.models") else None


def _digest(network: nn.Module, code: Code | None) -> str:
    """Return the digest of the names and shapes of a network's tensors, and of its code."""
    tensors = {
        name: [list(value.shape), str(value.dtype)] for name, value in network.state_dict().items()
    }
    content = {"tensors": tensors, "code": None if code is None else code.digest}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
