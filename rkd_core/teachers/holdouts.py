"""By what a method judges a teacher: its logits on images that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from rkd_core.datasets.array_data import Setting
from rkd_core.datasets.splits import hold_out
from rkd_core.methods.common.protocol import HeldOut
from rkd_core.models.inference import logits_of
from rkd_core.specs import HoldoutRule, TeacherRef, TrainingSpec
from rkd_core.teachers.answers import Teacher, stored_network

__all__ = ["Holdouts"]


class Holdouts:
    """The hold-outs of trainings side by side; each teacher is asked once.

    Args:
        setting: Of the trainings.
        teacher: Theirs.
        out: Results folder, which has the initial teachers.
    """

    def __init__(self, setting: Setting, teacher: Teacher | None, out: Path | None) -> None:
        self._setting, self._teacher, self._out = setting, teacher, out
        self._asked: dict[tuple[HoldoutRule, str], HeldOut] = {}

    def of(self, spec: TrainingSpec) -> HeldOut | None:
        """What a training's method needs; None if it judges nobody.

        With a rule, these are the training images that the initial teacher has not seen, found
        again by the same rule. With ``validation``, it is the teacher itself on validation.

        Raises:
            UserError: The initial teacher's artifact is missing or damaged.
        """
        rule = None if spec.variant is None else spec.variant.build().needs.holdout
        if rule is None or self._teacher is None or self._out is None:
            return None
        if rule == "validation":
            labels = torch.from_numpy(self._setting.dataset.val.labels)
            return HeldOut(self._teacher.validation, labels)
        if spec.initial is None:
            raise ValueError("a hold-out needs an initial teacher")
        key = rule, spec.initial.run_id
        if key not in self._asked:
            self._asked[key] = self._ask(rule, spec.initial, self._out)
        return self._asked[key]

    def _ask(self, rule: HoldoutRule, ref: TeacherRef, out: Path) -> HeldOut:
        train = self._setting.dataset.train
        _, rows = hold_out(train.labels, rule)
        images = train.subset(rows)
        _, network = stored_network(ref, self._setting, out)
        logits = logits_of(network, self._setting.evaluated(images), self._setting.execution)
        return HeldOut(logits, torch.from_numpy(images.labels))
