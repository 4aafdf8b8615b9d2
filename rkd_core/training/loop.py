"""Training and measurement of the models that specs describe.

``train`` follows the order of a training: find existing results, load data and teacher, run the
epochs, measure, commit. Every random choice is a pure function of the spec.

Trainings with the same batches (one stage, seed, recipe and teacher) run side by side as an array.
They share a data stream and the logits of the teacher; each has its own weights, optimizer state,
costs and multipliers. On one CPU core, this takes as long as training them one after the other and
gives the same records, except for small networks, which are stacked (``stacked_steps``); on a GPU,
it makes better use of the device.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rkd_core import plugins, records
from rkd_core.datasets import Dataset, default_imbalance, load
from rkd_core.datasets.array_data import ArrayData
from rkd_core.device.execution import Execution
from rkd_core.errors import DivergedError, UserError
from rkd_core.models import compiled, features
from rkd_core.models.inference import NOT_FINITE
from rkd_core.models.sources.identity import load as load_code
from rkd_core.records import shifts
from rkd_core.records.predictions import Kept
from rkd_core.results import ledger
from rkd_core.results.checkpoints import Checkpoints
from rkd_core.specs import DataOptions, TrainingSpec, array_key, run_id
from rkd_core.storage.files import Location, location
from rkd_core.teachers.answers import Teacher
from rkd_core.teachers.holdouts import Holdouts
from rkd_core.training import warm_start
from rkd_core.training.array import begin_step, validate_all
from rkd_core.training.completion import completed, description
from rkd_core.training.controls import Progress, TrainingControls
from rkd_core.training.given_teacher import complete_given
from rkd_core.training.logit_shift import Shifted
from rkd_core.training.measurement import Measurement, measure, measure_all
from rkd_core.training.optimizer import learning_rate
from rkd_core.training.run import Run
from rkd_core.training.saving import Saving
from rkd_core.training.stacked_steps import GroupedSteps
from rkd_core.training.steps import CudaRecorder, EagerSteps, RecordedSteps, Steps

__all__ = ["train"]

_REPORTED = ("val_average_accuracy", "val_worst_class_accuracy")


def train(
    specs: Sequence[TrainingSpec],
    *,
    out: Location | str | None = None,
    data: Dataset | None = None,
    data_dir: Path | str | None = None,
    execution: Execution | None = None,
    controls: TrainingControls = TrainingControls(),
    **changes: Any,
) -> list[records.Record]:
    """Train the models that specs describe; return their records in the order of the specs.

    Specs that differ only in objective, alpha, temperature, multipliers, method or network are
    trained side by side, all at once; on a GPU, pass as many as fit in its memory.

    Args:
        specs: Teachers, or students whose teachers are already in ``out`` or precede them.
        out: Results folder, or ``s3://`` or ``gs://`` and a prefix. Weights are stored in
            ``artifacts/``, then predictions in ``predictions/`` and a record in ``records/``, and
            a teacher's logits in ``teacher_logits/``. The record of a completed run is returned
            without training; a run with a checkpoint in ``checkpoints/`` continues from it, to the
            same record. If None, nothing is written, and only teachers can be trained.
        data: Dataset of all specs; None to load ``spec.dataset``.
        data_dir: Folder that is searched first for the dataset.
        execution: Device and precision; by default the first GPU, or the CPU if there is none, in
            the faster precision.
        controls: Progress reports, checkpoints, validations, and when to stop.
        **changes: Attributes of ``controls``, as a shorthand: ``train(specs, until=10)``.

    Returns:
        One row per spec in the columns of ``rkd_core.records.SCHEMA``.

    Raises:
        UserError: Data or a teacher's artifact is missing or damaged.
        DivergedError: A loss or a logit is not finite. All other trainings are completed and
            committed first; ``causes`` states the reason for each abandoned one.
        StoppedError: ``controls.stop`` returned true. The same call continues from there.
    """
    folder = None if out is None else location(out)
    execution = execution or Execution.best()
    controls = replace(controls, **changes)
    _load_code(specs, folder)
    loaded: dict[tuple[str, DataOptions], Dataset] = {}
    rows: dict[str, records.Record] = {}
    arrays: dict[tuple[object, int], dict[str, TrainingSpec]] = {}  # by key and steps done
    identities = []
    for spec in specs:
        source = spec.dataset, spec.data
        if source not in loaded:
            directory = None if data_dir is None else Path(data_dir)
            loaded[source] = _load(spec, directory) if data is None else data
        identity = run_id(spec, loaded[source].fingerprint)
        identities.append(identity)
        existing = None if folder is None else ledger.find(folder, identity)
        if existing is None:
            done = 0 if folder is None else Checkpoints(folder, identity).newest()
            arrays.setdefault((array_key(spec), done), {})[identity] = spec
        else:
            rows[identity] = existing
    causes: dict[str, str] = {}
    for (_, done), array in arrays.items():
        first = next(iter(array.values()))
        dataset = loaded[first.dataset, first.data]
        prepared = execution.prepared(dataset.image_size)
        if first.epochs == 0 and first.initial_weights is None:
            outcomes = _complete_untrained(array, dataset, folder, prepared, controls)
        else:
            outcomes = _train_array(array, dataset, folder, prepared, controls, done)
        for identity, outcome in outcomes.items():
            if isinstance(outcome, str):
                causes[identity] = outcome
            else:
                rows[identity] = outcome
            pruned = identity in rows and rows[identity]["status"] == "pruned"
            if folder is not None and not pruned:
                Checkpoints(folder, identity).delete()
    if causes:
        error = DivergedError("; ".join(dict.fromkeys(causes.values())))
        error.causes = causes
        raise error
    return [rows[identity] for identity in identities]


def _load_code(specs: Iterable[TrainingSpec], out: Location | None) -> None:
    """Load the code of users' networks from the results folder, and find that of plug-ins."""
    if out is not None:
        plugins.search(out, again=False)
    for spec in specs:
        if spec.network_digest is not None and out is not None:
            load_code(spec.architecture, spec.network_digest, out)


def _load(spec: TrainingSpec, data_dir: Path | None) -> Dataset:
    ratio = default_imbalance(spec.dataset)
    if ratio is not None and spec.data.imbalance is None:
        # The digest must identify the training images, and it does not include the name.
        raise UserError(
            f"a spec of {spec.dataset} states its imbalance: DataOptions(imbalance={ratio:g})"
        )
    return load(spec.dataset, spec.data, data_dir=data_dir)


def _train_array(
    specs: dict[str, TrainingSpec],
    dataset: Dataset,
    out: Location | None,
    execution: Execution,
    controls: TrainingControls,
    done: int,
) -> dict[str, records.Record | str]:
    """Train specs with the same ``array_key``, of which ``done`` steps are done already.

    Returns:
        The record of each run, or the reason why it was abandoned.
    """
    started_at = datetime.now(UTC)

    # ---- Data, teacher, networks --------------------------------------------------------------
    began, first = time.perf_counter(), next(iter(specs.values()))
    recipe = first.recipe
    array_data = ArrayData(first, dataset, execution)
    teacher = _teacher(first, array_data, out)
    holdouts = Holdouts(array_data, teacher, out)
    recorded = execution.on_gpu and execution.recorded
    rate = torch.tensor(recipe.learning_rate, device=execution.device) if recorded else None
    runs = [
        Run(spec, identity, array_data, teacher, rate, holdouts.of(spec))
        for identity, spec in specs.items()
    ]
    warm_start.begin([] if done else runs, out)  # a checkpoint includes all weights
    saving = Saving(out, runs, done, controls, began)
    steps = _steps(runs, rate, array_data)

    # ---- Epochs -------------------------------------------------------------------------------
    count = len(array_data.batches)
    total = recipe.epochs * count
    last = recipe.epochs if controls.until is None else min(controls.until, recipe.epochs)
    losses = torch.zeros(count, len(runs), device=execution.device)
    losses[: done % count] = saving.losses.to(execution.device)
    schedule = controls.validation_schedule
    validated = schedule.epochs(recipe.epochs, len(dataset.train), len(dataset.val)) - {last}
    for epoch in range(done // count, last):
        if not any(_alive(runs)):
            break
        for run in runs:
            run.begin_epoch(epoch)
        begin = max(done - epoch * count, 0)
        for step, batch in enumerate(array_data.batches.epoch(epoch, begin), begin):
            saving.step_begins(epoch * count + step, losses[:step])
            begin_step(list(_alive(runs)), epoch, step)
            now = learning_rate(recipe, epoch * count + step, total)
            answers = None if teacher is None else teacher.logits(batch)
            losses[step] = steps(batch, answers, now)
        for run, curve in zip(runs, losses.cpu().unbind(dim=1), strict=True):
            if run.cause is None:
                with _noted(run):
                    run.end_epoch(epoch, curve)
        seen = validate_all(list(_alive(runs)), epoch + 1) if epoch + 1 in validated else {}
        for run in _alive(runs):
            if controls.report is not None:
                at = epoch + 1, recipe.epochs
                figures = map(seen.get(run.run_id, {}).get, _REPORTED)
                controls.report(Progress(run.run_id, *at, run.train_loss, now, *figures))
        saving.epoch_ended(epoch + 1, count, last)
    if last < recipe.epochs:
        return _prune(runs, saving, array_data, started_at, max(last * count, done), out)

    # ---- Measurement, commit -------------------------------------------------------------------
    return _complete(runs, saving, array_data, started_at, teacher, out, controls)


def _complete(
    runs: Sequence[Run],
    saving: Saving,
    array_data: ArrayData,
    started_at: datetime,
    teacher: Teacher | None,
    out: Location | None,
    controls: TrainingControls,
) -> dict[str, records.Record | str]:
    """Measure and commit the trainings that have been completed."""
    dataset, execution = array_data.dataset, array_data.execution
    final = {run.run_id: run.final() for run in _alive(runs)}
    measured: dict[str, Measurement] = {}
    keep: Kept | None = "none" if out is None else controls.keep_predictions
    fit = controls.shifts and out is not None and runs[0].spec.stage == "student"
    specs = [run.spec for run in _alive(runs)]
    found = measure_all([*final.values()], array_data, specs, [*final], teacher, keep, fit)
    for run, measurement in zip(list(_alive(runs)), found, strict=True):
        if measurement is None:
            run.cause = NOT_FINITE
        else:
            measured[run.run_id] = measurement
    saving.count_seconds()
    outcomes: dict[str, records.Record | str] = {}
    for run in runs:
        if run.cause is not None:
            outcomes[run.run_id] = run.cause
            continue
        model = final[run.run_id]
        figures, predicted, shifted = measured[run.run_id]
        columns = figures | {
            "parameters": sum(p.numel() for p in model.parameters()),
            "multipliers": run.multipliers,
            "epochs_trained": array_data.recipe.epochs,
            **run.validations,
            "train_loss": run.train_loss if array_data.recipe.epochs else None,
            "train_seconds": run.seconds,
            "trained_together": len(runs),
            "teacher_pass": "live" if run.uses_live_teacher else teacher and teacher.mode,
        }
        row = completed(run.spec, run.run_id, dataset, execution, started_at, columns)
        if out is not None:
            network = description(run.spec, array_data, run.iterates)
            weights = model.state_dict()
            standing = ledger.commit(out, run.spec, network, weights, row, predicted)
            # A run that another process has committed has the shifts of that process.
            if standing is row and shifted is not None:
                shifts.write(out, shifted)
            row = standing
        outcomes[run.run_id] = row
    return outcomes


def _prune(
    runs: Sequence[Run],
    saving: Saving,
    array_data: ArrayData,
    started_at: datetime,
    done: int,
    out: Location | None,
) -> dict[str, records.Record | str]:
    """Save trainings after ``done`` steps, and record their validation figures."""
    dataset, execution = array_data.dataset, array_data.execution
    outcomes: dict[str, records.Record | str] = {}
    epochs = done // len(array_data.batches)
    seen = validate_all(list(_alive(runs)), epochs)
    saving.save(done, saving.losses[:0])
    saving.count_seconds()
    for run in runs:
        if run.cause is not None:
            outcomes[run.run_id] = run.cause
            continue
        figures = seen[run.run_id] | run.validations | {"epochs_trained": epochs}
        figures |= {"train_seconds": run.seconds, "trained_together": len(runs)}
        row = completed(run.spec, run.run_id, dataset, execution, started_at, figures)
        row["status"] = "pruned"
        if out is not None:
            records.write(out / "records", row)
        outcomes[run.run_id] = row
    return outcomes


def _complete_untrained(
    specs: dict[str, TrainingSpec],
    dataset: Dataset,
    out: Location | None,
    execution: Execution,
    controls: TrainingControls,
) -> dict[str, records.Record | str]:
    """Measure and commit shifts and teachers with given logits; see ``_train_array``."""
    if all(spec.given_logits is not None for spec in specs.values()):
        return {**complete_given(specs, dataset, _needed(out), execution, controls)}
    outcomes: dict[str, records.Record | str] = {}
    for identity, spec in specs.items():
        started_at = datetime.now(UTC)
        array_data = ArrayData(spec, dataset, execution)
        folder, keep = _needed(out), controls.keep_predictions
        shifted = Shifted(spec, array_data, folder)
        measured, predicted, _ = measure(shifted.model, array_data, spec, identity, keep=keep)
        figures = measured | {
            "parameters": sum(p.numel() for p in shifted.network.parameters()),
            "multipliers": shifted.multipliers,
            "epochs_trained": 0,
            "train_seconds": shifted.seconds,
            "trained_together": 1,
        }
        row = completed(
            spec, identity, array_data.dataset, array_data.execution, started_at, figures
        )
        weights = shifted.network.state_dict()
        described = shifted.description
        outcomes[identity] = ledger.commit(folder, spec, described, weights, row, predicted)
    return outcomes


def _teacher(spec: TrainingSpec, array_data: ArrayData, out: Location | None) -> Teacher | None:
    return None if spec.teacher is None else Teacher(spec.teacher, array_data, _needed(out))


def _needed(out: Location | None) -> Location:
    if out is None:
        raise UserError("a student needs `out`, the results folder that holds its teacher")
    return out


def _steps(runs: Sequence[Run], rate: Tensor | None, array_data: ArrayData) -> Steps:
    """Return recorded steps if the trainings read a rate tensor, else steps on the CPU."""
    if rate is None:
        return EagerSteps(runs) if len(runs) == 1 else GroupedSteps(runs)
    execution, recipe = array_data.execution, array_data.recipe
    recorder = CudaRecorder(execution.device, len(runs))
    pays = compiled.pays(recipe.epochs * len(array_data.batches))
    forward = compiled.CompiledForward() if execution.compiled and pays else features.forward
    return RecordedSteps(runs, rate, recipe.batch_size, recorder, forward)


def _alive(runs: Iterable[Run]) -> Iterator[Run]:
    return (run for run in runs if run.cause is None)


@contextlib.contextmanager
def _noted(run: Run) -> Iterator[None]:
    """Abandon a training that diverges, without affecting others."""
    try:
        yield
    except DivergedError as error:
        run.cause = str(error)
