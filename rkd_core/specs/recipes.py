"""Recipes by name: those of the papers, and short ones for small machines.

To add a recipe, add an entry. Tags: [C] taken from the authors' public code, [P] printed in the
paper, [I] inferred because the paper does not state it.
"""

from __future__ import annotations

from rkd_core.errors import unknown_name
from rkd_core.specs import Recipe

__all__ = ["RECIPES", "descriptions", "get"]

# Menon et al. (ICLR 2021) and Narasimhan & Menon (NeurIPS 2021) on long-tailed CIFAR [C], which
# Wang et al. "closely mimic". Their Keras l2 of 1e-4 has gradient 2e-4 w. They pad centered images
# with zeros, which are mid gray.
_LOGIT_ADJUSTMENT = Recipe(
    epochs=1241,
    batch_size=128,
    learning_rate=0.1,
    weight_decay=2e-4,
    decay_norm=False,
    schedule="step",
    warmup=20 / 1241,
    milestones=(604 / 1241, 926 / 1241, 1128 / 1241),
    crop_padding=2,
    crop_fill=0.5,
    flip=True,
    normalization="centered",
)
_LUKASIK_CIFAR = Recipe(
    epochs=450,
    batch_size=1024,
    learning_rate=1.0,
    weight_decay=1e-4,
    schedule="step",
    warmup=15 / 450,
    milestones=(200 / 450, 300 / 450, 400 / 450),
    crop_padding=4,
    flip=True,
)
_LUKASIK_IMAGENET = Recipe(
    epochs=90,
    batch_size=1024,
    learning_rate=0.8,
    weight_decay=5e-5,
    schedule="step",
    warmup=5 / 90,
    milestones=(30 / 90, 60 / 90, 80 / 90),
    crop_padding=4,
    flip=True,
)
_MDISTILLER_CIFAR = Recipe(
    epochs=240,
    batch_size=64,
    drop_last=False,
    learning_rate=0.05,
    nesterov=False,
    weight_decay=5e-4,
    schedule="step",
    milestones=(150 / 240, 180 / 240, 210 / 240),
    crop_padding=4,
    flip=True,
)
RECIPES: dict[str, tuple[str, Recipe]] = {
    "logit-adjustment-cifar10-lt": (
        "Menon et al. 2021, CIFAR-10-LT: 1241 epochs of 12,406 images",
        _LOGIT_ADJUSTMENT,
    ),
    "logit-adjustment-cifar100-lt": (
        "Menon et al. 2021, CIFAR-100-LT: 1419 epochs of 10,847 images",
        _LOGIT_ADJUSTMENT.model_copy(
            update={
                "epochs": 1419,
                "warmup": 22 / 1419,
                "milestones": (691 / 1419, 1059 / 1419, 1290 / 1419),
            }
        ),
    ),
    "logit-adjustment": (
        "the same schedule for full training sets of 50,000: as many steps, 308 epochs [inferred]",
        _LOGIT_ADJUSTMENT.model_copy(update={"epochs": 308}),
    ),
    "lukasik-cifar": ("Lukasik et al. 2022, CIFAR-100: 450 epochs in steps", _LUKASIK_CIFAR),
    "lukasik-cifar-lt": (
        "Lukasik et al. 2022, CIFAR-100-LT: 450 epochs, cosine",
        _LUKASIK_CIFAR.model_copy(update={"schedule": "cosine", "milestones": ()}),
    ),
    "lukasik-imagenet": ("Lukasik et al. 2022, ImageNet: 90 epochs in steps", _LUKASIK_IMAGENET),
    "lukasik-imagenet-lt": (
        "Lukasik et al. 2022, ImageNet-LT: 90 epochs, cosine",
        _LUKASIK_IMAGENET.model_copy(update={"schedule": "cosine", "milestones": ()}),
    ),
    "mdistiller-cifar": ("mdistiller, CIFAR-100: 240 epochs in steps", _MDISTILLER_CIFAR),
    "mdistiller-cifar-mobile": (
        "mdistiller, CIFAR-100, MobileNet and ShuffleNet students: learning rate 0.01",
        _MDISTILLER_CIFAR.model_copy(update={"learning_rate": 0.01}),
    ),
    "mdistiller-imagenet": (
        "mdistiller, ImageNet: 100 epochs in steps",
        Recipe(
            epochs=100,
            batch_size=512,
            drop_last=False,
            learning_rate=0.2,
            nesterov=False,
            weight_decay=1e-4,
            schedule="step",
            milestones=(0.3, 0.6, 0.9),
            crop_padding=4,
            flip=True,
        ),
    ),
    "digits": (
        "8x8 digits: 40 epochs, cosine, no augmentation; a second or two on one core",
        Recipe(
            epochs=40,
            batch_size=64,
            learning_rate=0.1,
            weight_decay=5e-4,
            schedule="cosine",
            warmup=0.1,
        ),
    ),
    "small-images": (
        "for small machines: cosine, high learning rate, as many epochs as there is time for",
        Recipe(
            epochs=10,
            batch_size=128,
            learning_rate=0.2,
            weight_decay=5e-4,
            decay_norm=False,
            schedule="cosine",
            warmup=0.1,
            crop_padding=4,
            flip=True,
        ),
    ),
}


def get(name: str) -> Recipe:
    """Return the recipe with a name.

    Raises:
        UserError: There is no such recipe.
    """
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name][1]


def descriptions() -> dict[str, str]:
    """Return the name and the one-line description of every recipe."""
    return {name: line for name, (line, _) in RECIPES.items()}
