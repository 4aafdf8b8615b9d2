"""One training, teacher or student, with the margin losses of Wang et al. (UAI 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from benchmarks.naive.data import Loaders
from rkd_core import models
from rkd_core.datasets import Dataset
from rkd_core.specs import Recipe

__all__ = [
    "Outcome",
    "Setup",
    "ascend",
    "class_costs",
    "class_risks",
    "count",
    "margin_loss",
    "network",
    "optimizer_and_schedule",
    "train",
    "train_one_epoch",
]

Batches = DataLoader[Any]
"""Batches of images ``(batch, channels, height, width)`` and labels ``(batch,)``."""
TargetsOf = Callable[[Tensor, Tensor], Tensor]
"""Function from a batch's images and labels to its targets, ``(batch, classes)``."""


@dataclass(frozen=True)
class Setup:
    """Settings that all trainings of a sweep share."""

    recipe: Recipe
    teacher_architecture: str
    student_architecture: str
    multiplier_step_size: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """A trained model with its images and correct predictions per class."""

    model: nn.Module
    val_class_total: list[int]
    val_class_correct: list[int]
    test_class_total: list[int]
    test_class_correct: list[int]


def train(
    data: Dataset,
    setup: Setup,
    alpha: float | None,
    teacher: nn.Module | None = None,
    temperature: float = 1.0,
) -> Outcome:
    """Train and measure a teacher, or with ``teacher`` its student.

    Args:
        data: Training, validation and test images.
        setup: Settings that all trainings share.
        alpha: Trade-off between the balanced (0) and the robust (1) objective; None: standard.
        teacher: A trained teacher.
        temperature: Divisor of the teacher's logits.
    """
    seed = setup.seed if teacher is None else setup.seed + 1  # a student starts from other weights
    torch.manual_seed(seed)
    loaders = Loaders(data, setup.recipe)
    architecture = setup.teacher_architecture if teacher is None else setup.student_architecture
    model = network(architecture, data, seed)
    optimizer, schedule = optimizer_and_schedule(model, setup.recipe, len(loaders.training))

    def one_hot(images: Tensor, labels: Tensor) -> Tensor:
        return F.one_hot(labels, data.classes).float()

    def taught(images: Tensor, labels: Tensor) -> Tensor:
        assert teacher is not None
        with torch.no_grad():
            return F.softmax(teacher(images) / temperature, dim=1)

    if teacher is None:
        targets_of = one_hot
        priors = torch.bincount(torch.tensor(data.train.labels), minlength=data.classes)
        priors = priors / priors.sum()
    else:
        targets_of = taught
        teacher.eval()
        priors = _all_targets(loaders.train, targets_of).mean(dim=0)
    ascending = alpha is not None and alpha > 0
    if ascending:
        val_targets = _all_targets(loaders.val, targets_of)
    multipliers = torch.full((data.classes,), 1 / data.classes)

    for _ in range(setup.recipe.epochs):
        if ascending:
            risks = class_risks(_predictions(model, loaders.val), val_targets)
            multipliers = ascend(multipliers, risks, setup.multiplier_step_size)
        costs = class_costs(alpha, priors, multipliers)
        train_one_epoch(model, loaders.training, optimizer, schedule, costs, targets_of)
    val_counts = count(model, loaders.val, data.classes)
    return Outcome(model, *val_counts, *count(model, loaders.test, data.classes))


def network(architecture: str, data: Dataset, seed: int) -> nn.Module:
    """Return the same network as ours, in torch's default float32 NCHW."""
    return models.build(architecture, data.classes, data.channels, data.image_size, seed=seed)


def train_one_epoch(
    model: nn.Module,
    loader: Batches,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    costs: Tensor,
    targets_of: TargetsOf,
) -> None:
    """Train for one pass over the training images."""
    model.train()
    for images, labels in loader:
        loss = margin_loss(model(images), targets_of(images, labels), costs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def margin_loss(logits: Tensor, targets: Tensor, costs: Tensor) -> Tensor:
    """Return Eq. 9 without its factor 1/m: soft-label cross-entropy of logits minus log costs."""
    return F.cross_entropy(logits - costs.log(), targets)


def class_costs(alpha: float | None, priors: Tensor, multipliers: Tensor) -> Tensor:
    """Return costs of the standard (None), balanced (0), robust (1) or an objective between."""
    if alpha is None:
        return torch.ones_like(priors)
    return ((1 - alpha) / len(priors) + alpha * multipliers) / priors.clamp(min=1e-12)


def class_risks(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the share of each class's target probability on images predicted otherwise."""
    right = F.one_hot(predictions, targets.shape[1])
    return 1 - (targets * right).sum(dim=0) / targets.sum(dim=0)


def ascend(multipliers: Tensor, risks: Tensor, step_size: float) -> Tensor:
    """Return the multipliers after one step of exponentiated gradient."""
    return F.softmax(multipliers.log() + step_size * risks, dim=0)


def optimizer_and_schedule(
    model: nn.Module, recipe: Recipe, steps_per_epoch: int
) -> tuple[torch.optim.SGD, LambdaLR]:
    """Return SGD, and a linear warm-up followed by half a cosine.

    Raises:
        ValueError: The recipe has another schedule.
    """
    if recipe.schedule != "cosine":
        raise ValueError(f"the schedule must be cosine, not {recipe.schedule}")
    steps = recipe.epochs * steps_per_epoch
    warm = round(recipe.warmup * steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / (warm + 1)
        return (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    undecayed = [] if recipe.decay_norm else [p for m in norms for p in m.parameters()]
    ids = {id(p) for p in undecayed}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in ids]},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )
    return optimizer, LambdaLR(optimizer, factor)


@torch.no_grad()
def count(model: nn.Module, loader: Batches, classes: int) -> tuple[list[int], list[int]]:
    """Return the images and the correct predictions of each class."""
    model.eval()
    total, correct = torch.zeros(classes, dtype=torch.long), torch.zeros(classes, dtype=torch.long)
    for images, labels in loader:
        right = model(images).argmax(dim=1) == labels
        total += torch.bincount(labels, minlength=classes)
        correct += torch.bincount(labels[right], minlength=classes)
    return total.tolist(), correct.tolist()


def _all_targets(loader: Batches, targets_of: TargetsOf) -> Tensor:
    return torch.cat([targets_of(images, labels) for images, labels in loader])


@torch.no_grad()
def _predictions(model: nn.Module, loader: Batches) -> Tensor:
    model.eval()
    return torch.cat([model(images).argmax(dim=1) for images, _ in loader])
