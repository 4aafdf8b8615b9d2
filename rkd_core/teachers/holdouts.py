"""Hold-out sets for methods that estimate teacher accuracy."""

from __future__ import annotations

import torch

from rkd_core.datasets.array_data import ArrayData
from rkd_core.datasets.splits import hold_out
from rkd_core.methods.common.protocol import HeldOut
from rkd_core.models.inference import logits_of
from rkd_core.specs import HoldoutRule, TeacherRef, TrainingSpec
from rkd_core.storage.files import Location
from rkd_core.teachers.answers import Teacher, stored_network

__all__ = ["Holdouts"]


class Holdouts:
    """Hold-out sets of an array of trainings; each teacher's logits are computed once.

    Args:
        data: Data of the trainings.
        teacher: Teacher of the trainings; None without one.
        out: Results folder with the initial teachers.
    """

    def __init__(self, data: ArrayData, teacher: Teacher | None, out: Location | None) -> None:
        self._data, self._teacher, self._out = data, teacher, out
        self._computed: dict[tuple[HoldoutRule, str], HeldOut] = {}

    def of(self, spec: TrainingSpec) -> HeldOut | None:
        """Return the hold-out set that the method of a training needs; None if it needs none.

        With a rule, the images are the training images that were withheld from the initial
        teacher, selected again with the same rule. With ``validation``, they are the validation
        images, with the logits of the teacher itself.

        Raises:
            UserError: The initial teacher's artifact is missing or damaged.
        """
        rule = None if spec.variant is None else spec.variant.build().needs.holdout
        if rule is None or self._teacher is None or self._out is None:
            return None
        if rule == "validation":
            labels = torch.from_numpy(self._data.dataset.val.labels)
            return HeldOut(self._teacher.validation, labels)
        if spec.initial is None:
            raise ValueError("a hold-out needs an initial teacher")
        key = rule, spec.initial.run_id
        if key not in self._computed:
            self._computed[key] = self._compute(rule, spec.initial, self._out)
        return self._computed[key]

    def _compute(self, rule: HoldoutRule, ref: TeacherRef, out: Location) -> HeldOut:
        train = self._data.dataset.train
        _, rows = hold_out(train.labels, rule)
        images = train.subset(rows)
        _, network = stored_network(ref, self._data, out)
        logits = logits_of(network, self._data.evaluation_batches(images), self._data.execution)
        return HeldOut(logits, torch.from_numpy(images.labels))
