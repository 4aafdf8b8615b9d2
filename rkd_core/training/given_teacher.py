"""Teachers that are known by their logits only: their records and artifacts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import torch

from rkd_core import records
from rkd_core.datasets import Dataset
from rkd_core.device.execution import Execution
from rkd_core.records.predictions import SPLITS, Kept
from rkd_core.results import ledger
from rkd_core.results.artifacts import Artifact
from rkd_core.specs import TrainingSpec
from rkd_core.storage.files import Location
from rkd_core.teachers import given_logits
from rkd_core.training.completion import completed
from rkd_core.training.controls import TrainingControls
from rkd_core.training.logit_shift import shift_of
from rkd_core.training.measurement import Measurement, measure_logits

__all__ = ["complete_given", "measure_given"]


def complete_given(
    specs: Mapping[str, TrainingSpec],
    dataset: Dataset,
    out: Location,
    execution: Execution,
    controls: TrainingControls,
) -> dict[str, records.Record]:
    """Measure and commit teachers with given logits, by run id.

    The weights of their artifacts are the ``shift`` of the logits, which is 0 for the standard
    teacher.

    Raises:
        UserError: The logits are missing in the results folder, or damaged.
    """
    outcomes: dict[str, records.Record] = {}
    for identity, spec in specs.items():
        began, started_at = time.perf_counter(), datetime.now(UTC)
        shift, multipliers = np.zeros(dataset.classes), None
        if spec.derived is not None:
            logits = given_logits.load(out, str(spec.given_logits))["val"]
            shift, multipliers = shift_of(spec, logits.numpy(), dataset)
        weights = {"shift": torch.from_numpy(shift).float()}
        description = {
            "architecture": spec.architecture,
            "classes": dataset.classes,
            "class_names": list(dataset.class_names),
        }
        artifact = Artifact(spec, description, weights, "", out)
        measured = measure_given(artifact, dataset, identity, controls.keep_predictions)
        figures = measured.columns | {
            "multipliers": multipliers,
            "epochs_trained": 0,
            "train_seconds": time.perf_counter() - began,
            "trained_together": 1,
        }
        row = completed(spec, identity, dataset, execution, started_at, figures)
        predicted = measured.predictions
        outcomes[identity] = ledger.commit(out, spec, description, weights, row, predicted)
    return outcomes


def measure_given(
    artifact: Artifact, dataset: Dataset, run_id: str, keep: Kept | None = None
) -> Measurement:
    """Measure a teacher with given logits on validation and test.

    Raises:
        UserError: The logits are missing in the results folder, or damaged.
    """
    answers = given_logits.answers(artifact)
    logits = {split: answers[split] for split in SPLITS}
    return measure_logits(logits, dataset, artifact.spec, run_id, keep)
