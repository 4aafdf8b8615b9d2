"""Makers of networks of timm, of torchvision and of users' code."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rkd_core.errors import UserError, first_line, unknown_name
from rkd_core.models.sources.reference import Reference

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Maker", "from_library", "from_object"]

Maker = Callable[[int, int, tuple[int, ...]], "nn.Module"]
"""Function of (classes, channels, image size) that returns a network with random weights."""

_CUSTOMARY = {
    "classes": ("num_classes", "classes", "n_classes", "nb_classes", "num_labels"),
    "channels": ("in_chans", "in_channels", "channels", "num_channels", "n_channels"),
    "size": ("img_size", "image_size", "input_size"),
}
"""Customary names of parameters for the number of classes, of channels, and the image size."""
_OF_ARRAYS = {
    "features": ("in_features", "num_features", "n_features", "in_dim", "input_dim"),
    "shape": ("input_shape", "in_shape"),
}
"""Customary names of parameters for the number of values of a vector, and the shape of a row."""
_AUXILIARY = ("googlenet", "inception_v3")
"""Networks of torchvision that have a second head unless they are asked for one."""
_PRETRAINED = ("pretrained", "weights", "weights_backbone", "checkpoint_path")


def from_library(reference: Reference) -> Maker:
    """Return the maker of a network of timm or torchvision.

    Raises:
        UserError: The library is not installed or has no such classification network, or an
            argument asks for pretrained weights.
    """
    for name in _PRETRAINED:
        if reference.arguments.get(name):
            raise UserError(
                f"{reference.canonical}: leave out {name}, and give a file of initial weights, so "
                "that they are part of the run id"
            )
    if reference.source == "timm":
        return _timm(reference)
    return _torchvision(reference)


def from_object(target: Any, reference: Reference) -> Maker:
    """Return the maker of a user's class or function.

    It is given the number of classes, the number of channels and the image size, as far as its
    signature takes them under customary names: ``num_classes``; ``in_chans`` or ``in_channels``;
    ``img_size`` or ``image_size``, an int for square images, else ``(height, width)``. For rows
    that are not images, it is also given ``in_features`` or ``input_dim``, their number of values,
    and ``input_shape``, their shape.

    Raises:
        UserError: The object cannot be called, or needs other arguments.
    """
    where = reference.target
    if not callable(target) or _is_network(target):
        kind = "a network" if callable(target) else type(target).__name__
        raise UserError(f"{where} is {kind}, not a class or function that makes a network")
    try:
        signature = inspect.signature(target)
    except ValueError:  # a class of an extension module
        signature = inspect.Signature()
    taken = {
        kind: next((name for name in names if name in signature.parameters), None)
        for kind, names in (_CUSTOMARY | _OF_ARRAYS).items()
    }
    try:
        named = {name: 1 for name in taken.values() if name is not None}
        signature.bind(**(named | dict(reference.arguments)))
    except TypeError as error:
        raise UserError(
            f"{where} cannot be called with {_listed(named | dict(reference.arguments))}: "
            f"{first_line(error)}. Give arguments as {where}(name=value); the number of classes is "
            "given as num_classes, that of channels as in_chans, the size as img_size, the number "
            "of features of a vector as in_features"
        ) from None

    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> nn.Module:
        square = len(image_size) == 2 and image_size[0] == image_size[1]
        values: dict[str, Any] = {
            "classes": classes,
            "channels": channels,
            "size": image_size[0] if square else image_size,
        }
        if len(image_size) != 2:
            values |= {
                "size": image_size or channels,
                "features": math.prod((channels, *image_size)),
                "shape": (channels, *image_size),
            }
        given = {name: values[k] for k, name in taken.items() if name is not None and k in values}
        made: nn.Module = target(**(given | dict(reference.arguments)))
        return made

    return make


def _listed(arguments: dict[str, Any]) -> str:
    return ", ".join(arguments) or "no arguments"


def _is_network(target: Any) -> bool:
    from torch import nn

    return isinstance(target, nn.Module)


def _imported(library: str, reference: Reference) -> ModuleType:
    if importlib.util.find_spec(library) is None:
        raise UserError(
            f"{reference.canonical}: {library} is not installed here; pip install -e '.[{library}]'"
        )
    return importlib.import_module(library)


def _timm(reference: Reference) -> Maker:
    timm = _imported("timm", reference)
    name = reference.target
    if not timm.is_model(name.split(".")[0]):
        raise unknown_name("network of timm", name, timm.list_models(), " (timm.list_models())")

    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> nn.Module:
        fixed = {"num_classes": classes, "in_chans": channels} | dict(reference.arguments)
        create = partial(timm.create_model, name)
        if "img_size" in fixed:
            made: nn.Module = create(**fixed)
            return made
        try:
            made = create(**fixed, img_size=image_size)
        except TypeError as error:  # most convolutional networks take any size
            if "img_size" not in str(error):
                raise
            made = create(**fixed)
        return made

    return make


def _torchvision(reference: Reference) -> Maker:
    models = _imported("torchvision", reference).models
    name = reference.target
    known = models.list_models(module=models)
    if name not in known:
        raise unknown_name("classification network of torchvision", name, known)

    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> nn.Module:
        fixed: dict[str, Any] = {"num_classes": classes}
        if name in _AUXILIARY:
            fixed |= {"aux_logits": False, "init_weights": True}
        if name.startswith("vit_"):
            if image_size[0] != image_size[1]:
                raise ValueError(f"{name} needs square images")
            fixed["image_size"] = image_size[0]
        made: nn.Module = models.get_model(
            name, weights=None, **(fixed | dict(reference.arguments))
        )
        if channels == 3:
            return made
        if channels == 1:
            from rkd_core.models.sources.foreign import GrayAsColor

            return GrayAsColor(made)
        raise ValueError(f"networks of torchvision take 1 or 3 channels, not {channels}")

    return make
