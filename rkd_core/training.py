"""Train and measure: specs in, records out.

``train`` reads top to bottom as a training does: find what exists, gather data and targets, loop
over epochs, measure, commit. Every random choice is a pure function of the spec.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rkd_core import artifacts, ledger, models, records
from rkd_core.ascent import Ascent
from rkd_core.datasets import Dataset, default_imbalance, load
from rkd_core.datasets.batches import EvaluationBatches, TrainingBatches, normalization_statistics
from rkd_core.errors import DivergedError, UserError
from rkd_core.evaluation import class_counts, predictions_of
from rkd_core.execution import Execution
from rkd_core.metrics import average_accuracy, worst_class_accuracy
from rkd_core.objectives import class_costs, margin_loss
from rkd_core.optimization import learning_rate, optimizer_for
from rkd_core.predictor import AveragedLogits
from rkd_core.specs import DataOptions, TrainingSpec, run_id
from rkd_core.streams import stream_seed
from rkd_core.targets import (
    EVALUATION_BATCH,
    OneHotTargets,
    Targets,
    TeacherTargets,
    true_probabilities,
)

__all__ = ["Progress", "train"]

_VALIDATIONS = 10  # how often, at the most, progress reports carry validation figures


@dataclass(frozen=True)
class Progress:
    """What is known after an epoch; validation figures only now and then."""

    run_id: str
    epoch: int
    epochs: int
    train_loss: float
    learning_rate: float
    val_average_accuracy: float | None = None
    val_worst_class_accuracy: float | None = None


def train(
    specs: Sequence[TrainingSpec],
    *,
    out: Path | str | None = None,
    data: Dataset | None = None,
    data_dir: Path | str | None = None,
    execution: Execution | None = None,
    report: Callable[[Progress], None] | None = None,
) -> list[dict[str, Any]]:
    """Train what the specs describe and return their records, in their order.

    Args:
        specs: Teachers, or students whose teachers are in ``out`` already.
        out: Results folder. Weights go to ``artifacts/`` and then a record to ``records/``; a
            run that is completed there is returned, not trained again. Without it nothing is
            written, and only teachers can be trained.
        data: The data of all the specs; by default ``spec.dataset`` is looked up.
        data_dir: Where to look for it first.
        execution: Device and precision; by default the first GPU, else the CPU, in float32.
        report: Called after every epoch.

    Returns:
        One row per spec in the columns of ``rkd_core.records.SCHEMA``.

    Raises:
        UserError: Data or a teacher's artifact is missing or damaged.
        DivergedError: A loss or a logit is no longer finite.
    """
    folder = None if out is None else Path(out)
    execution = execution or Execution.best()
    execution.prepare()
    rows = []
    loaded: dict[tuple[str, DataOptions], Dataset] = {}
    for spec in specs:
        source = spec.dataset, spec.data
        if data is None and source not in loaded:
            loaded[source] = _load(spec, None if data_dir is None else Path(data_dir))
        dataset = loaded[source] if data is None else data
        identity = run_id(spec, dataset.fingerprint)
        existing = None if folder is None else ledger.find(folder, identity)
        rows.append(existing or _train_one(spec, identity, dataset, folder, execution, report))
    return rows


def _load(spec: TrainingSpec, data_dir: Path | None) -> Dataset:
    ratio = default_imbalance(spec.dataset)
    if ratio is not None and spec.data.imbalance is None:
        # The digest has to say what is trained on, and it does not hold the name.
        raise UserError(
            f"a spec of {spec.dataset} states its imbalance: DataOptions(imbalance={ratio:g})"
        )
    return load(spec.dataset, spec.data, data_dir=data_dir)


def _train_one(
    spec: TrainingSpec,
    identity: str,
    dataset: Dataset,
    out: Path | None,
    execution: Execution,
    report: Callable[[Progress], None] | None,
) -> dict[str, Any]:
    started_at, clock = datetime.now(UTC), time.perf_counter()
    recipe, device = spec.recipe, execution.device

    # ---- Data -------------------------------------------------------------------------------
    # Students of one seed share their order and augmentation, so differences are paired.
    statistics = normalization_statistics(dataset.train, recipe)
    batches = TrainingBatches(
        dataset.train,
        recipe,
        seed=stream_seed("data", spec.stage, spec.seed),
        device=device,
        statistics=statistics,
        workers=execution.threads,
    )
    validation, test = (
        EvaluationBatches(
            images,
            recipe,
            batch_size=EVALUATION_BATCH,
            device=device,
            statistics=statistics,
            workers=execution.threads,
        )
        for images in (dataset.val, dataset.test)
    )

    # ---- Model ------------------------------------------------------------------------------
    model = (
        models.build(
            spec.architecture,
            dataset.classes,
            dataset.channels,
            dataset.image_size,
            seed=stream_seed("weights", spec.stage, spec.seed),
        )
        .to(device)
        .to(memory_format=torch.channels_last)
    )
    optimizer = optimizer_for(model, recipe)

    # ---- Targets, costs and multipliers -----------------------------------------------------
    targets = _targets(spec, dataset, batches, statistics, out, execution)
    ascent: Ascent | None = None
    if spec.multipliers is not None:
        true = spec.stage == "teacher" or spec.multipliers.val_labels == "true"
        ascent = Ascent(
            spec.multipliers,
            true_probabilities(dataset, execution) if true else targets.validation,
            dataset,
            recipe,
            statistics,
            execution,
            spec.seed,
        )

    def costs() -> Tensor:
        multipliers = None if ascent is None else ascent.log_multipliers.exp()
        return class_costs(spec.objective, targets.priors, multipliers, spec.alpha)

    # ---- Epochs -----------------------------------------------------------------------------
    steps_per_epoch = len(batches)
    steps = recipe.epochs * steps_per_epoch
    current_costs = costs()
    losses = torch.zeros(steps_per_epoch, device=device)
    iterates: list[dict[str, Tensor]] = []
    model.train()
    for epoch in range(recipe.epochs):
        for step, batch in enumerate(batches.epoch(epoch)):
            if ascent is not None and ascent.due(step):
                ascent.update(model)
                current_costs = costs()
            rate = learning_rate(recipe, epoch * steps_per_epoch + step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            wanted = targets(batch)
            with execution.autocast():
                logits = model(batch.images)
            loss = margin_loss(logits, wanted, current_costs, spec.scale_by_classes)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses[step] = loss.detach()
        train_loss = _mean_loss(losses, epoch)
        if _is_iterate(spec, epoch):
            iterates.append({k: v.detach().clone() for k, v in model.state_dict().items()})
        if report is not None:
            report(
                Progress(
                    identity,
                    epoch + 1,
                    recipe.epochs,
                    train_loss,
                    rate,
                    *(
                        _accuracies(model, validation, dataset, execution)
                        if (epoch + 1) % math.ceil(recipe.epochs / _VALIDATIONS) == 0
                        else (None, None)
                    ),
                )
            )

    # ---- Measure, commit --------------------------------------------------------------------
    final = _averaged(spec, dataset, iterates, device) if iterates else model
    measured: dict[str, Any] = {}
    for split, images, evaluation in (
        ("val", dataset.val, validation),
        ("test", dataset.test, test),
    ):
        predictions = predictions_of(final, evaluation, execution)
        total, correct = class_counts(np.asarray(images.labels), predictions, dataset.classes)
        measured |= {
            f"{split}_class_total": total,
            f"{split}_class_correct": correct,
            f"{split}_average_accuracy": float(average_accuracy(correct, total)),
            f"{split}_worst_class_accuracy": float(worst_class_accuracy(correct, total)),
        }
    row = records.identity(spec, identity, dataset.fingerprint) | {
        "class_names": list(dataset.class_names),
        "train_class_total": dataset.class_counts("train").tolist(),
        "parameters": sum(p.numel() for p in final.parameters()),
        **measured,
        "multipliers": None if ascent is None else ascent.log_multipliers.exp().tolist(),
        "train_loss": train_loss,
        "train_seconds": time.perf_counter() - clock,
        "started_at": started_at,
        "host": execution.host,
        "device": execution.device_name,
        "precision": execution.precision,
        "versions": _versions(),
        "status": "completed",
    }
    if out is None:
        return row
    description = _description(spec, dataset, statistics, len(iterates) or None)
    return ledger.commit(out, spec, description, final.state_dict(), row)


def _targets(
    spec: TrainingSpec,
    dataset: Dataset,
    batches: TrainingBatches,
    statistics: tuple[Tensor, Tensor],
    out: Path | None,
    execution: Execution,
) -> Targets:
    if spec.teacher is None or spec.temperature is None:
        return OneHotTargets(dataset, execution)
    if out is None:
        raise UserError("a student needs `out`, the results folder that holds its teacher")
    artifact = artifacts.load(out / "artifacts", spec.teacher.run_id)
    taught_by = artifact.spec
    for name in ("objective", "alpha", "architecture"):
        said, found = getattr(spec.teacher, name), getattr(taught_by, name)
        if said != found:
            raise UserError(
                f"the spec says that its teacher's {name} is {said}, but run "
                f"{spec.teacher.run_id} has {found}"
            )
    return TeacherTargets(
        artifact, spec.temperature, dataset, spec.recipe, batches, statistics, execution
    )


def _mean_loss(losses: Tensor, epoch: int) -> float:
    mean = float(losses.double().mean())
    if not math.isfinite(mean):
        step = int((~torch.isfinite(losses)).nonzero()[0])
        raise DivergedError(f"the loss is {float(losses[step])} at epoch {epoch}, step {step}")
    return mean


def _accuracies(
    model: nn.Module, validation: EvaluationBatches, dataset: Dataset, execution: Execution
) -> tuple[float, float]:
    predictions = predictions_of(model, validation, execution)
    total, correct = class_counts(np.asarray(dataset.val.labels), predictions, dataset.classes)
    return float(average_accuracy(correct, total)), float(worst_class_accuracy(correct, total))


def _is_iterate(spec: TrainingSpec, epoch: int) -> bool:
    """Whether the model at the end of this epoch is one of the N that are averaged."""
    n = None if spec.multipliers is None else spec.multipliers.averaged_iterates
    if n is None:
        return False
    epochs = spec.recipe.epochs
    return epoch + 1 in {(k * epochs) // n for k in range(1, n + 1)}


def _averaged(
    spec: TrainingSpec, dataset: Dataset, iterates: list[dict[str, Tensor]], device: str
) -> nn.Module:
    networks = []
    for weights in iterates:
        network = models.build(
            spec.architecture, dataset.classes, dataset.channels, dataset.image_size, seed=0
        )
        network.load_state_dict(weights)
        networks.append(network)
    return AveragedLogits(networks).to(device).to(memory_format=torch.channels_last).eval()


def _description(
    spec: TrainingSpec,
    dataset: Dataset,
    statistics: tuple[Tensor, Tensor],
    iterates: int | None,
) -> dict[str, Any]:
    """``model.json`` of the artifact: all that is needed to use the weights."""
    mean, std = statistics
    return {
        "architecture": spec.architecture,
        "classes": dataset.classes,
        "class_names": list(dataset.class_names),
        "channels": dataset.channels,
        "image_size": list(dataset.image_size),
        "normalization": {"mean": mean.tolist(), "std": std.tolist()},
        "iterates": iterates,
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # run from a clone that is not installed
        return None


def _versions() -> str:
    return json.dumps(
        {
            "robust-distillation": _version("robust-distillation"),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": _version("torchvision"),
            "numpy": np.__version__,
        }
    )
