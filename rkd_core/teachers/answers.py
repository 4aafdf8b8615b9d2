"""A stored teacher, asked once about every view that its students see.

Its answers are logits, before any temperature, so that students of every temperature share them.
They lie in ``teacher_logits/`` of the results folder and can be deleted at any time: they are
found again by asking.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from rkd_core.datasets import Dataset, ImageSet
from rkd_core.datasets.array_data import Setting
from rkd_core.datasets.batches.batches import Batch
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.methods.common.protocol import Needs
from rkd_core.models.base import lower_precision
from rkd_core.models.features import Look, look
from rkd_core.models.inference import iterate_logits, logits_of
from rkd_core.models.predictor import rebuild
from rkd_core.results import artifacts
from rkd_core.results.artifacts import Artifact
from rkd_core.specs import TeacherRef, TrainingSpec
from rkd_core.storage import bundles, files
from rkd_core.teachers.table_or_live import FILE, FOLDER, TeacherPass, all_views, teacher_pass

__all__ = ["Teacher", "ask", "stored_network"]

log = logging.getLogger(__name__)

_PATIENCE = 120.0  # seconds to wait for another that asks the same; it may hang, and twice is right
_FORMAT = 2  # raise it when a teacher is asked, or its answers are kept, in another way


class Teacher:
    """What a teacher says of the images of a setting.

    In a ``table``, logits are kept in float32: rounding to float16 would change the gradients of
    methods that scale differences of logits (``docs/performance.md``). In ``live`` mode the teacher
    runs on each batch, once for all students that are trained together.

    Attributes:
        clean: Logits of the training images without augmentation, float32 ``(n, classes)``.
        validation: Logits of the validation images, float32 ``(n_val, classes)``.
        asked: ``table`` or ``live``.

    Raises:
        UserError: The teacher's artifact is missing or damaged, or is not what the spec says.
    """

    def __init__(self, ref: TeacherRef, setting: Setting, out: Path) -> None:
        artifact = artifacts.load(out / "artifacts", ref.run_id)
        _compare(ref, artifact)
        dataset, recipe, execution = setting.dataset, setting.recipe, setting.execution
        self.asked: TeacherPass = teacher_pass(
            recipe,
            len(dataset.train),
            dataset.classes,
            in_memory=isinstance(dataset.train, ImageSet),
        )
        self._artifact, self._setting, self._recipe = artifact, setting, recipe
        tabled = self.asked == "table" and recipe.views > 1
        name = f"{ref.run_id}-{_digest(setting, artifact, tabled)}"
        answers = self._answers(out / FOLDER / name, ref.run_id, tabled)
        answers = {name: values.to(execution.device) for name, values in answers.items()}
        self.clean, self.validation = answers["clean"], answers["validation"]
        self._views, self._keys = answers.get("views"), answers.get("keys")

    def logits(self, batch: Batch) -> Tensor:
        """Logits of the very views in a training batch, float32 ``(batch, classes)``."""
        if self.asked == "live":
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
        """The teacher, its batch norms folded into its convolutions, in the precision at hand."""
        network = rebuild(self._artifact)
        try:
            network = fuse(network)
        except Exception as error:  # whatever cannot be traced works unfolded
            log.info("%s is not folded: %s", self._artifact.spec.architecture, error)
        return _placed(network, self._artifact, self._setting)

    def look(self, images: Tensor, needs: Needs) -> Look:
        """What it computes of a training batch, normalised for its students, without gradient.

        Raises:
            UserError: It cannot be looked into, or has no class activation maps.
        """
        with torch.no_grad():
            return look(self._inside.network, self._inside.own(images), needs)

    @cached_property
    def _inside(self) -> _Renormalized:
        """The teacher as it was built: a folded one has no stages."""
        return _placed(rebuild(self._artifact), self._artifact, self._setting)

    def _answers(self, path: Path, run_id: str, tabled: bool) -> dict[str, Tensor]:
        """What is kept, or else what the teacher says now; one process asks, others wait for it."""
        answers = _stored(path, run_id)
        if answers is not None:
            return answers
        if not files.is_local(path):  # a store has no locks
            return self._ask(path, run_id, tabled)
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(path.with_name(f".{path.name}.lock"), _PATIENCE))
            except (OSError, NotImplementedError, Timeout) as error:  # then twice is not too much
                log.warning("%s is asked for without a lock: %s", path, error)
            return _stored(path, run_id) or self._ask(path, run_id, tabled)

    def _ask(self, path: Path, run_id: str, tabled: bool) -> dict[str, Tensor]:
        """Run the teacher on all there is, keep its answers and return them, on the CPU."""
        setting = self._setting
        execution, train = setting.execution, setting.dataset.train
        answers = {
            "clean": logits_of(self._network, setting.evaluated(train), execution).cpu(),
            "validation": logits_of(self._network, setting.validation, execution).cpu(),
        }
        if tabled:
            if all_views(self._recipe):
                keys = np.arange(len(train) * self._recipe.views)
            else:
                keys = setting.batches.seen(self._recipe.epochs)
                answers["keys"] = torch.from_numpy(keys)
            views = torch.empty(len(keys), setting.dataset.classes)
            start = 0
            looks = setting.batches.look(keys, setting.evaluation_batch)
            for _, logits in iterate_logits(self._network, looks, execution):
                views[start : start + len(logits)] = logits.cpu()
                start += len(logits)
            answers["views"] = views
        try:
            bundles.write(path, run_id, {FILE: serialize(answers)})
        except OSError as error:  # a full disk is no reason to stop: they are in memory
            log.warning("%s is not kept: %s", path, error)
        return answers


def ask(student: TrainingSpec, dataset: Dataset, out: Path, execution: Execution) -> None:
    """Have a student's teacher asked now, so that students find its answers when they begin.

    Raises:
        UserError: The teacher's artifact is missing or damaged, or is not what the spec says.
    """
    if student.teacher is not None and student.epochs > 0:
        setting = Setting(student, dataset, execution.prepared(dataset.image_size))
        Teacher(student.teacher, setting, out)


def stored_network(
    ref: TeacherRef, setting: Setting, out: Path, dtype: torch.dtype | None = None
) -> tuple[Artifact, _Renormalized]:
    """A trained network for images that were normalised for a setting, on its device.

    Args:
        ref: Whose.
        setting: Of the images.
        out: Results folder.
        dtype: Of weights and images; None for the precision at hand.

    Raises:
        UserError: The artifact is missing or damaged, or is not what the reference says.
    """
    artifact = artifacts.load(out / "artifacts", ref.run_id)
    _compare(ref, artifact)
    return artifact, _placed(rebuild(artifact), artifact, setting, dtype)


def _placed(
    network: nn.Module, artifact: Artifact, setting: Setting, dtype: torch.dtype | None = None
) -> _Renormalized:
    device, dtype = setting.execution.device, dtype or setting.execution.dtype
    network = lower_precision(network.to(device), dtype).to(memory_format=torch.channels_last)
    return _Renormalized(network, setting.statistics, artifact, device, dtype).eval()


class _Renormalized(nn.Module):
    """A teacher fed with batches that were normalised for its student.

    Their recipes may differ in normalisation; then the images are brought to the teacher's own.
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
        self._scale = scale.float().to(device)[:, None, None]
        self._shift = shift.float().to(device)[:, None, None]

    def own(self, images: Tensor) -> Tensor:
        """A batch as the teacher knows it, in its precision."""
        own = images if self._same else images * self._scale + self._shift
        return own.to(self._dtype)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.own(images))


def _stored(path: Path, run_id: str) -> dict[str, Tensor] | None:
    """Answers that were kept, on a disk mapped into memory; None if there are none.

    Damaged ones are deleted, or they would be in the way of new ones.
    """
    answers: dict[str, Tensor]
    try:
        if not bundles.exists(path):
            return None
        if files.is_local(path):
            bundles.check(path, run_id, (FILE,))
            answers = load_file(path / FILE)
        else:
            answers = deserialize(bundles.read(path, run_id, (FILE,))[FILE])
    except (UserError, OSError, SafetensorError) as error:
        log.warning("%s; the teacher is asked again", error)
        files.remove(path)
        return None
    return answers


def _compare(ref: TeacherRef, artifact: Artifact) -> None:
    for name in ("objective", "alpha", "architecture"):
        said, found = getattr(ref, name), getattr(artifact.spec, name)
        if said != found:
            raise UserError(
                f"the spec says that its teacher's {name} is {said}, but run "
                f"{ref.run_id} has {found}"
            )


def _digest(setting: Setting, artifact: Artifact, tabled: bool) -> str:
    """Of all that answers depend on."""
    recipe = setting.recipe
    asked: dict[str, Any] = {
        "format": _FORMAT,
        "weights": artifact.digest,
        "data": [setting.dataset.fingerprint, setting.data_options.model_dump(mode="json")],
        "normalization": recipe.normalization,
        "precision": setting.execution.precision,
    }
    if tabled:
        asked["augmentation"] = [recipe.crop_padding, recipe.crop_fill, recipe.flip]
    if tabled and not all_views(recipe):
        asked["seen"] = [recipe.epochs, recipe.batch_size, recipe.drop_last, setting.data_seed]
        if setting.sampling != "all":
            asked["sampling"] = setting.sampling
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
