"""Distillation with logit adjustment (Menon et al., ICLR 2021)."""

from __future__ import annotations

from typing import ClassVar

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class BalancedStudent(SoftTeacher):
    """A standard teacher and a student that minimizes the balanced risk (logit adjustment)."""

    name = "balanced_student"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    @property
    def cell(self) -> Cell:
        """The balanced student under the standard teacher."""
        return Cell("balanced", self.temperature)
