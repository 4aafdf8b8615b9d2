"""Narasimhan & Menon (NeurIPS 2021), as Wang et al. (UAI 2023) compare with it."""

from __future__ import annotations

from typing import ClassVar

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class RobustStudent(SoftTeacher):
    """A standard teacher, and a student that minimises the worst-class risk (Algorithm 1)."""

    name = "robust_student"
    grid: ClassVar[Grid] = {"temperature": (1.0, 3.0, 5.0)}

    @property
    def cell(self) -> Cell:
        """The grid's."""
        return Cell("robust", self.temperature)
