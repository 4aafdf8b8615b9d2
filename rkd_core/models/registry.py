"""Registry of architectures, with the description, builder and size of each.

Importing this module does not import torch. The suffixes ``_cifar`` and ``_imagenet``
fix the stem of networks that have both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name
from rkd_core.models.sources.reference import arguments_of, call_of

if TYPE_CHECKING:
    from rkd_core.models.base import Network

__all__ = ["HEADS", "REGISTRY", "Architecture", "canonical", "check_shape", "find"]

Builder = Callable[[int, int, tuple[int, ...]], "Network"]
"""Function of (classes, channels, image size) that returns a network."""


class Architecture(NamedTuple):
    """An entry of the registry."""

    description: str
    build: Builder
    parameters: int
    """Number of parameters for ten classes of 32 x 32 color images, or of 768 features."""


def find(architecture: str) -> Architecture:
    """Return the entry of an architecture.

    Raises:
        UserError: There is no such architecture.
    """
    if is_head(architecture):
        return _mlp("", **_head(architecture))
    if architecture not in REGISTRY:
        raise unknown_name("architecture", architecture, HEADS | REGISTRY)
    return REGISTRY[architecture]


def is_head(architecture: str) -> bool:
    """Return whether a text names a network for arrays, with arguments or not."""
    return call_of(architecture)[0] in HEADS


def canonical(architecture: str) -> str:
    """Return the name in specs: that of a network for arrays has its arguments in one order.

    Raises:
        UserError: An argument is unknown or has a wrong value.

    >>> canonical("mlp(norm='layer', hidden=64)")
    "mlp(hidden=(64,), norm='layer')"
    """
    name, call = call_of(architecture)
    if name not in HEADS or not call:
        return architecture
    chosen = _head(architecture)
    given = ", ".join(f"{key}={chosen[key]!r}" for key in sorted(arguments_of(architecture, call)))
    return f"{name}({given})" if given else name


def check_shape(architecture: str, shape: tuple[int, ...]) -> None:
    """Refuse an image network for other arrays, and a network for arrays for images.

    Args:
        architecture: Name of a registered network.
        shape: Shape of a row: channels, height and width of an image.

    Raises:
        UserError: The network does not take this shape.
    """
    size = " x ".join(map(str, shape))
    if is_head(architecture):
        if len(shape) == 3:
            raise UserError(
                f"{architecture} is for arrays such as embeddings, not for images of {size}: "
                "choose an image network, or one of your own"
            )
    elif len(shape) != 3:
        raise UserError(
            f"{architecture} is for images, and the rows of the data are arrays of {size}: choose "
            "mlp, linear or a network of your own"
        )


def _head(architecture: str) -> dict[str, Any]:
    """Return the hidden layers and the normalization of a network for arrays.

    Raises:
        UserError: An argument is unknown or has a wrong value.
    """
    name, call = call_of(architecture)
    given = dict(arguments_of(architecture, call))
    defaults: dict[str, Any] = {"mlp": {"hidden": (256,), "norm": "none"}, "linear": {}}[name]
    for key in given:
        if key not in defaults:
            hint = "" if defaults else f"; {name} takes none"
            raise unknown_name(f"argument of {name}", key, defaults, hint)
    chosen = {"hidden": (), "norm": "none"} | defaults | given
    hidden = chosen["hidden"]
    hidden = tuple(hidden) if isinstance(hidden, tuple | list) else (hidden,)
    if not all(type(width) is int and width > 0 for width in hidden):
        raise UserError(
            f"{architecture}: hidden is a width or a tuple of widths, such as (256, 64)"
        )
    if chosen["norm"] not in ("none", "layer", "batch"):
        raise UserError(f"{architecture}: norm is 'none', 'layer' or 'batch'")
    return {"hidden": hidden, "norm": chosen["norm"]}


def _mlp(
    description: str, hidden: tuple[int, ...], norm: Literal["none", "layer", "batch"]
) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.mlp import Mlp

        return Mlp(classes, math.prod((channels, *image_size)), hidden, norm)

    widths = (_USUAL_FEATURES, *hidden, _TEN)
    count = sum((a + 1) * b for a, b in pairwise(widths))
    return Architecture(description, make, count)


_USUAL_FEATURES, _TEN = 768, 10
HEADS: dict[str, str] = {
    "linear": "linear classifier of arrays such as embeddings",
    "mlp": "perceptron for arrays, one hidden layer of 256; also 'mlp(hidden=(512, 128), "
    "norm='layer')'",
}
"""Networks for arrays by name, with a one-line description."""


def _cifar_resnet(depth: int, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.cifar_resnet import CifarResNet

        return CifarResNet(depth, classes, channels)

    return Architecture(
        f"CIFAR ResNet-{depth} (16, 32, 64 channels), basic blocks", make, parameters
    )


def _wider_resnet(depth: int, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.cifar_resnet import CifarResNet

        return CifarResNet(depth, classes, channels, widths=(32, 64, 128, 256))

    return Architecture(
        f"CIFAR ResNet-{depth}, four times as wide (64, 128, 256 channels)", make, parameters
    )


def _google_resnet(depth: int, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.google_resnet import GoogleResNet

        return GoogleResNet(depth, classes, channels)

    return Architecture(
        f"ResNet-{depth} of Google's public code, blocks of 1x1, 3x3, 1x1", make, parameters
    )


def _wide_resnet(widen: int, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.wide_resnet import WideResNet

        return WideResNet(40, widen, classes, channels)

    widths = ", ".join(str(width * widen) for width in (16, 32, 64))
    return Architecture(
        f"wide ResNet 40-{widen} ({widths} channels), pre-activation blocks", make, parameters
    )


def _vgg(convolutions: int, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.vgg_mobilenet_v1 import Vgg

        return Vgg(convolutions, classes, channels, image_size)

    return Architecture(
        f"VGG-{3 + 5 * convolutions} with batch norm, for small images", make, parameters
    )


def _mobilenet_v1(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
    from rkd_core.models.networks.vgg_mobilenet_v1 import MobileNetV1

    return MobileNetV1(classes, channels)


def _mobilenet_v2_cifar(width: float, parameters: int) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.mobile import MobileNetV2Cifar

        return MobileNetV2Cifar(width, classes, channels)

    return Architecture(f"MobileNetV2 of width {width:g} for small images", make, parameters)


def _shufflenet_v1(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
    from rkd_core.models.networks.mobile import ShuffleNetV1

    return ShuffleNetV1(classes, channels)


_STEMS: dict[Literal["by_size", "cifar", "imagenet"], str] = {
    "by_size": "CIFAR stem below 128 pixels",
    "cifar": "CIFAR stem",
    "imagenet": "ImageNet stem",
}


def _torchvision_resnet(
    depth: int, parameters: int, stem: Literal["by_size", "cifar", "imagenet"]
) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.torchvision_nets import TorchvisionResNet

        return TorchvisionResNet(depth, classes, channels, image_size, stem)

    return Architecture(f"ResNet-{depth} of torchvision; {_STEMS[stem]}", make, parameters)


def _torchvision_mobile(
    name: str, title: str, parameters: int, ends: tuple[int, ...], **options: float
) -> Architecture:
    def make(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
        from rkd_core.models.networks.torchvision_nets import TorchvisionMobile

        return TorchvisionMobile(name, classes, channels, ends, **options)

    return Architecture(f"{title} of torchvision; ImageNet stem", make, parameters)


def _digits_cnn(classes: int, channels: int, image_size: tuple[int, ...]) -> Network:
    from rkd_core.models.networks.digits_cnn import DigitsCnn

    return DigitsCnn(classes, channels)


_CIFAR_RESNETS = {
    8: 78_042,
    14: 175_258,
    20: 272_474,
    32: 466_906,
    44: 661_338,
    56: 855_770,
    110: 1_730_714,
}
"""Number of parameters by depth."""
_CIFAR_STEM = {18: 11_173_962, 34: 21_282_122, 50: 23_520_842}
_IMAGENET_STEM = {18: 11_181_642, 34: 21_289_802, 50: 23_528_522}

REGISTRY: dict[str, Architecture] = {
    "digits_cnn": Architecture(
        "two 3x3 convolutions, for images such as 8x8 digits", _digits_cnn, 6_426
    ),
    "resnet32_google": _google_resnet(32, 300_762),
    "resnet56_google": _google_resnet(56, 539_994),
    **{f"resnet{depth}": _cifar_resnet(depth, count) for depth, count in _CIFAR_RESNETS.items()},
    "resnet8x4": _wider_resnet(8, 1_210_410),
    "resnet32x4": _wider_resnet(32, 7_410_730),
    "wrn_40_1": _wide_resnet(1, 563_930),
    "wrn_40_2": _wide_resnet(2, 2_243_546),
    "vgg8": _vgg(1, 3_918_858),
    "vgg13": _vgg(2, 9_416_010),
    "mobilenet_v2_half": _mobilenet_v2_cifar(0.5, 697_546),
    "mobilenet_v2_full": _mobilenet_v2_cifar(1.0, 2_237_770),
    "shufflenet_v1": Architecture(
        "ShuffleNetV1 of 3 groups (240, 480, 960 channels), for small images",
        _shufflenet_v1,
        862_768,
    ),
    **{
        f"resnet{depth}": _torchvision_resnet(depth, count, "by_size")
        for depth, count in _CIFAR_STEM.items()
    },
    **{
        f"resnet{depth}_cifar": _torchvision_resnet(depth, count, "cifar")
        for depth, count in _CIFAR_STEM.items()
    },
    **{
        f"resnet{depth}_imagenet": _torchvision_resnet(depth, count, "imagenet")
        for depth, count in _IMAGENET_STEM.items()
    },
    "mobilenet_v1": Architecture("MobileNetV1; ImageNet stem", _mobilenet_v1, 3_217_226),
    "mobilenet_v2": _torchvision_mobile(
        "mobilenet_v2", "MobileNetV2", 2_236_682, ends=(3, 6, 13, 17)
    ),
    "mobilenet_v3_large": _torchvision_mobile(
        "mobilenet_v3_large", "MobileNetV3-Large", 4_214_842, ends=(3, 6, 12, 15)
    ),
    "efficientnet_v2_l": _torchvision_mobile(
        "efficientnet_v2_l",
        "EfficientNetV2-L",
        117_247_082,
        ends=(2, 3, 5, 7),
        stochastic_depth_prob=0.0,
    ),
}
"""All architectures by name."""


def _check(name: str, target: object) -> None:
    if not callable(target):
        raise UserError(f"{type(target).__name__} is not a class or function that makes a network")


plugins.networks.built_in(lambda: REGISTRY, _check)
