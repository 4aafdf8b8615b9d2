"""Teacher logits for every view that students see, computed once and cached.

Logits are cached before any temperature, so that students of all temperatures share them. The cache
is the folder ``teacher_logits/`` of the results folder. It can be deleted at any time; logits are
then computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rkd_core.datasets import Dataset, StreamedImageSet
from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.batches.batches import Batch
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Needs
from rkd_core.models.base import channels_last, lower_precision
from rkd_core.models.features import Outputs, forward, shapes
from rkd_core.models.fold import FoldedNetwork
from rkd_core.models.inference import iterate_logits, logits_of
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.results.artifacts import Artifact
from rkd_core.specs import TeacherRef, TrainingSpec
from rkd_core.storage import bundles, files, tensors
from rkd_core.storage.files import Location
from rkd_core.teachers import given_logits
from rkd_core.teachers.table_or_live import FILE, FOLDER, TeacherPass, all_views, teacher_pass

__all__ = ["Teacher", "cache_logits", "stored_network"]

log = logging.getLogger(__name__)

_PATIENCE = 120.0  # seconds to wait for another process, which may hang, before computing as well
_FORMAT = 2  # to be raised when the computation or the format of logits changes


class Teacher:
    """Logits of a stored teacher for the images of an array of trainings.

    A ``table`` stores logits in float32: rounding to float16 would change the gradients of methods
    that scale differences of logits (``docs/performance.md``). In ``live`` mode the teacher runs
    on each batch, once for all students that are trained together. A teacher that is known by its
    logits only returns those of the images without augmentation.

    Args:
        ref: Reference to the teacher.
        data: Data of the trainings.
        out: Results folder.

    Attributes:
        clean: Logits of the training images without augmentation, float32 ``(n, classes)``.
        validation: Logits of the validation images, float32 ``(n_val, classes)``.
        mode: ``table`` or ``live``.

    Raises:
        UserError: The teacher's artifact is missing, damaged, or differs from the reference.
    """

    def __init__(self, ref: TeacherRef, data: ArrayData, out: Location) -> None:
        artifact = artifacts.load(out / "artifacts", ref.run_id)
        _compare(ref, artifact)
        dataset, recipe, execution = data.dataset, data.recipe, data.execution
        self._artifact, self._data, self._recipe = artifact, data, recipe
        self.mode: TeacherPass = "table"
        if artifact.spec.given_logits is None:
            self.mode = teacher_pass(
                recipe,
                len(dataset.train),
                dataset.classes,
                in_memory=not isinstance(dataset.train, StreamedImageSet),
            )
            tabled = self.mode == "table" and recipe.views > 1
            name = f"{ref.run_id}-{_digest(data, artifact, tabled)}"
            answers = self._cached(out / FOLDER / name, ref.run_id, tabled)
        else:
            given = given_logits.answers(artifact)
            answers = {"clean": given["train"], "validation": given["val"]}
        answers = {name: values.to(execution.device) for name, values in answers.items()}
        self.clean, self.validation = answers["clean"], answers["validation"]
        self._views, self._keys = answers.get("views"), answers.get("keys")

    def logits(self, batch: Batch) -> Tensor:
        """Return the logits of the views in a training batch, float32 ``(batch, classes)``."""
        if self.mode == "live":
            with torch.no_grad():
                return self._network(batch.images).float()
        if self._views is None or batch.views is None:
            return self.clean[batch.indices]
        rows = batch.indices * self._recipe.views + batch.views
        if self._keys is not None:
            rows = torch.searchsorted(self._keys, rows)
        return self._views[rows]

    @cached_property
    def _network(self) -> nn.Module:
        """Teacher with batch norms folded into convolutions, in the precision of the execution."""
        network, dataset = rebuild(self._artifact), self._data.dataset
        try:
            network = FoldedNetwork(network, (dataset.channels, *dataset.image_size)).module
        except Exception as error:  # a network that cannot be traced is used without folding
            log.info("%s is not folded: %s", self._artifact.spec.architecture, error)
        return _placed(network, self._artifact, self._data)

    def outputs(self, images: Tensor, needs: Needs) -> Outputs:
        """Return the outputs for a training batch that a method needs, without gradient.

        Args:
            images: Images normalized for the students, ``(batch, channels, height, width)``.
            needs: Needs of the method.

        Raises:
            UserError: The teacher has no stages, or no class activation maps.
        """
        with torch.no_grad():
            return forward(self._unfolded.network, self._unfolded.renormalize(images), needs)

    @cached_property
    def shapes(self) -> tuple[tuple[tuple[int, int, int], ...], int]:
        """Shapes of the maps of its stages, and its number of features.

        Raises:
            UserError: The teacher has no stages.
        """
        dataset = self._data.dataset
        return shapes(self._unfolded.network, dataset.channels, dataset.image_size)

    @cached_property
    def _unfolded(self) -> _Renormalized:
        """Teacher with its stages, which a folded network does not have."""
        return _placed(rebuild(self._artifact), self._artifact, self._data)

    def _cached(self, path: Location, run_id: str, tabled: bool) -> dict[str, Tensor]:
        """Return cached logits, or compute them while other processes wait."""
        answers = _stored(path, run_id)
        if answers is not None:
            return answers
        lock = path.with_name(f".{path.name}.lock")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(files.storage_of(path).lock(lock, _PATIENCE))
            except TimeoutError as error:
                # Computing the logits twice is harmless.
                log.warning("%s is computed without a lock: %s", path, error)
            return _stored(path, run_id) or self._compute(path, run_id, tabled)

    def _compute(self, path: Location, run_id: str, tabled: bool) -> dict[str, Tensor]:
        """Run the teacher on all images, store its logits and return them, on the CPU."""
        data = self._data
        execution, train = data.execution, data.dataset.train
        answers = {
            "clean": logits_of(self._network, data.evaluation_batches(train), execution).cpu(),
            "validation": logits_of(self._network, data.validation, execution).cpu(),
        }
        if tabled:
            if all_views(self._recipe):
                keys = np.arange(len(train) * self._recipe.views)
            else:
                keys = data.batches.view_keys(self._recipe.epochs)
                answers["keys"] = torch.from_numpy(keys)
            views = torch.empty(len(keys), data.dataset.classes)
            start = 0
            batches = data.batches.view_batches(keys, data.evaluation_batch_size)
            for _, logits in iterate_logits(self._network, batches, execution):
                views[start : start + len(logits)] = logits.cpu()
                start += len(logits)
            answers["views"] = views
        try:
            tensors.write(path, run_id, FILE, answers)
        except OSError as error:  # such as a full disk; the logits in memory suffice
            log.warning("%s is not stored: %s", path, error)
        return answers


def cache_logits(
    student: TrainingSpec, dataset: Dataset, out: Location, execution: Execution
) -> None:
    """Compute and cache the logits of a student's teacher before its students start.

    Args:
        student: Spec of a student of the teacher.
        dataset: Dataset of the student.
        out: Results folder.
        execution: Device and precision.

    Raises:
        UserError: The teacher's artifact is missing, damaged, or differs from the spec.
    """
    if student.teacher is not None and student.epochs > 0:
        data = ArrayData(student, dataset, execution.prepared(dataset.image_size))
        Teacher(student.teacher, data, out)


def stored_network(
    ref: TeacherRef, data: ArrayData, out: Location, dtype: torch.dtype | None = None
) -> tuple[Artifact, _Renormalized]:
    """Load a trained network for images that are normalized for other trainings.

    Args:
        ref: Reference to the network's run.
        data: Data of the trainings, with their normalization and device.
        out: Results folder.
        dtype: Precision of weights and images; None for that of the execution.

    Returns:
        The artifact, and the network in evaluation mode on the device.

    Raises:
        UserError: The artifact is missing, damaged, or differs from the reference.
    """
    artifact = artifacts.load(out / "artifacts", ref.run_id)
    _compare(ref, artifact)
    return artifact, _placed(rebuild(artifact), artifact, data, dtype)


def placed(artifact: Artifact, data: ArrayData) -> nn.Module:
    """Return the float32 model of an artifact for images that are normalized for some trainings."""
    return _placed(rebuild(artifact), artifact, data, torch.float32)


def _placed(
    network: nn.Module, artifact: Artifact, data: ArrayData, dtype: torch.dtype | None = None
) -> _Renormalized:
    device, dtype = data.execution.device, dtype or data.execution.dtype
    network = channels_last(lower_precision(network.to(device), dtype))
    return _Renormalized(network, data.statistics, artifact, device, dtype).eval()


class _Renormalized(nn.Module):
    """A teacher for batches that are normalized for its student.

    If the two recipes differ in normalization, images are converted to that of the teacher.
    """

    def __init__(
        self,
        network: nn.Module,
        given: tuple[Tensor, Tensor],
        artifact: Artifact,
        device: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.network, self._dtype = network, dtype
        mean, std = (value.to(torch.float64).cpu() for value in given)
        own_mean, own_std = (
            torch.tensor(artifact.model["normalization"][key], dtype=torch.float64)
            for key in ("mean", "std")
        )
        scale, shift = std / own_std, (mean - own_mean) / own_std
        self._same = torch.allclose(scale, torch.ones_like(scale), rtol=0, atol=1e-7) and (
            torch.allclose(shift, torch.zeros_like(shift), rtol=0, atol=1e-7)
        )
        shape = (-1, *[1] * len(artifact.model["image_size"]))
        self._scale, self._shift = (v.float().to(device).view(shape) for v in (scale, shift))

    def renormalize(self, images: Tensor) -> Tensor:
        """Return images with the normalization of the teacher, in its precision."""
        own = images if self._same else images * self._scale + self._shift
        return own.to(self._dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.renormalize(images))


def _stored(path: Location, run_id: str) -> dict[str, Tensor] | None:
    """Return stored logits, memory-mapped if they are on a local disk; None if there are none.

    Damaged files are deleted, so that the logits can be stored again.
    """
    try:
        if bundles.exists(path):
            return tensors.read(path, run_id, FILE, mapped=True)
    except (UserError, OSError) as error:
        log.warning("%s; the teacher's logits are computed again", error)
        files.remove(path)
    return None


def _compare(ref: TeacherRef, artifact: Artifact) -> None:
    for name in ("objective", "alpha", "architecture"):
        expected, found = getattr(ref, name), getattr(artifact.spec, name)
        if expected != found:
            raise UserError(
                f"the spec says that its teacher's {name} is {expected}, but run "
                f"{ref.run_id} has {found}"
            )


def _digest(data: ArrayData, artifact: Artifact, tabled: bool) -> str:
    """Return a digest of everything that the stored logits depend on."""
    recipe = data.recipe
    inputs: dict[str, Any] = {
        "format": _FORMAT,
        "weights": artifact.digest,
        "data": [data.dataset.fingerprint, data.data_options.model_dump(mode="json")],
        "normalization": recipe.normalization,
        "precision": data.execution.precision,
    }
    if tabled:
        inputs["augmentation"] = [recipe.crop_padding, recipe.crop_fill, recipe.flip]
    if tabled and not all_views(recipe):
        inputs["seen"] = [recipe.epochs, recipe.batch_size, recipe.drop_last, data.data_seed]
        if data.sampling != "all":
            inputs["sampling"] = data.sampling
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:12]
