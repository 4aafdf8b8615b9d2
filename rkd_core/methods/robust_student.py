"""Robust student (Narasimhan & Menon, NeurIPS 2021), as evaluated by Wang et al. (UAI 2023)."""

from __future__ import annotations

from typing import ClassVar

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class RobustStudent(SoftTeacher):
    """A standard teacher and a student that minimizes the worst-class risk (Algorithm 1)."""

    name = "robust_student"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    @property
    def cell(self) -> Cell:
        """The robust student under the standard teacher."""
        return Cell("robust", self.temperature)
