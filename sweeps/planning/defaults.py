"""Default networks, recipes and grids by data set and scale.

The scale ``paper`` reproduces the papers. The scale ``small`` uses a smaller network, fewer epochs
and a coarser grid, which two CPU cores finish in about an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rkd_core.specs import MultiplierOptions

__all__ = ["Defaults", "Scale", "defaults_for"]

Scale = Literal["paper", "small"]

_PAPER_ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
_PAPER_TEMPERATURES = (1.0, 3.0, 5.0)
_PAPER_MULTIPLIERS = MultiplierOptions()  # Narasimhan & Menon's code: 0.1 every 32 steps
# Small data sets make one update per epoch, on all of validation. The logarithm of a multiplier can
# grow by the step size times the epochs in a training: about 8 nats, for 40 and about 15 epochs.
_DIGITS_MULTIPLIERS = MultiplierOptions(step_size=0.2, period=None, batch=None)
_SMALL_MULTIPLIERS = MultiplierOptions(step_size=0.5, period=None, batch=None)


# Number of 32 x 32 images on which two CPU cores train ResNet-8 students in about an hour, with the
# forward passes of the teacher and evaluations: about 850 images per second on each core.
_SMALL_BUDGET = 6_000_000
_ENOUGH_EPOCHS, _ENOUGH_IMAGES = 40, 128_000  # 1,000 steps of 128, for a few hundred images
_MOST_EPOCHS = 200  # of float arrays
_NATS = 8  # which the logarithm of a multiplier can grow by in a training


@dataclass(frozen=True)
class Defaults:
    """Networks, recipe and grid of a sweep."""

    teacher_architecture: str
    student_architecture: str
    recipe: str
    epochs: int | None
    """Epochs of a training; None for those of the recipe."""
    alphas: tuple[float, ...]
    temperatures: tuple[float, ...]
    multipliers: MultiplierOptions


def defaults_for(
    base: str | None,
    long_tailed: bool,
    image_size: tuple[int, ...],
    images: int,
    scale: Scale,
    *,
    arrays: bool = False,
) -> Defaults:
    """Return the defaults of a data set. They do not depend on the requested grid.

    Args:
        base: Registered name without ``-lt``, or None for a folder of the user.
        long_tailed: Whether the training set is long-tailed.
        image_size: Height and width in pixels.
        images: Number of training images.
        scale: ``paper`` or ``small``.
        arrays: Whether the data are float arrays.
    """
    if arrays:
        return _for_arrays("resnet8" if len(image_size) == 2 else "mlp", images)
    if base == "digits":
        return Defaults(
            "digits_cnn",
            "digits_cnn",
            "digits",
            None,
            _PAPER_ALPHAS,
            _PAPER_TEMPERATURES,
            _DIGITS_MULTIPLIERS,
        )
    if scale == "paper":
        network, recipe = _PAPER.get((base, long_tailed), _own(max(image_size)))
        return Defaults(
            network, network, recipe, None, _PAPER_ALPHAS, _PAPER_TEMPERATURES, _PAPER_MULTIPLIERS
        )
    per_epoch = images * image_size[0] * image_size[1] / 32**2
    alphas: tuple[float, ...] = (0.0, 0.5, 1.0)
    temperatures: tuple[float, ...] = (1.0, 3.0)  # 4 teachers and 32 students
    epochs = int(_SMALL_BUDGET / 36 / per_epoch)
    if epochs < 10:
        temperatures = (1.0,)  # 4 teachers and 16 students
        epochs = int(_SMALL_BUDGET / 20 / per_epoch)
    return Defaults(
        "resnet8",
        "resnet8",
        "small-images",
        min(max(epochs, 1), max(_ENOUGH_EPOCHS, _ENOUGH_IMAGES // images)),
        alphas,
        temperatures,
        _SMALL_MULTIPLIERS,
    )


def _for_arrays(network: str, rows: int) -> Defaults:
    """Return the defaults of float arrays, whose students train in seconds at either scale."""
    epochs = max(_ENOUGH_EPOCHS, min(_MOST_EPOCHS, _ENOUGH_IMAGES // rows))
    return Defaults(
        network,
        network,
        "arrays",
        epochs,
        _PAPER_ALPHAS,
        _PAPER_TEMPERATURES,
        MultiplierOptions(step_size=_NATS / epochs, period=None, batch=None),
    )


# Wang et al. 2023: ResNet-56 on CIFAR, ResNet-18 on TinyImageNet and ImageNet, self-distilled;
# learning rates "closely mimic" Menon et al. 2021.
_PAPER: dict[tuple[str | None, bool], tuple[str, str]] = {
    ("cifar10", False): ("resnet56", "logit-adjustment"),
    ("cifar10", True): ("resnet56", "logit-adjustment-cifar10-lt"),
    ("cifar100", False): ("resnet56", "logit-adjustment"),
    ("cifar100", True): ("resnet56", "logit-adjustment-cifar100-lt"),
    ("tiny-imagenet", False): ("resnet18", "mdistiller-cifar"),
    ("tiny-imagenet", True): ("resnet18", "mdistiller-cifar"),
    ("imagenet", False): ("resnet18", "lukasik-imagenet"),
    ("imagenet", True): ("resnet18", "lukasik-imagenet-lt"),
}


def _own(image_size: int) -> tuple[str, str]:
    if image_size < 48:
        return "resnet56", "logit-adjustment"
    return "resnet18", "mdistiller-cifar" if image_size < 128 else "lukasik-imagenet"
