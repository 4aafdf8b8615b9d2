"""Trade-off between balanced and robust risk of teacher and student, as in the sweep."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class Tradeoff(SoftTeacher):
    """Trade-off of balanced and robust risk for teacher and student (Wang et al. 2023, App. D)."""

    name = "tradeoff"
    grid: ClassVar[Grid] = {"alpha": (0.0, 0.25, 0.5, 0.75, 1.0), "temperature": (1.0, 3.0, 5.0)}

    alpha: float = Field(default=0.5, ge=0, le=1)
    """Trade-off of the student: 0 is balanced, 1 is robust. The grid has the teachers' values."""

    @property
    def cell(self) -> Cell:
        """The trade-off student under each teacher of the grid."""
        return Cell("tradeoff", self.temperature, self.alpha, teachers="grid")
