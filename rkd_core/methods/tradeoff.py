"""The sweep itself, as a method."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class Tradeoff(SoftTeacher):
    """Teacher and student each trade balanced for robust risk (Wang et al. 2023, Appendix D)."""

    name = "tradeoff"
    grid: ClassVar[Grid] = {"alpha": (0.0, 0.25, 0.5, 0.75, 1.0), "temperature": (1.0, 3.0, 5.0)}

    alpha: float = Field(default=0.5, ge=0, le=1)
    """The student's: 0 is balanced, 1 is robust. The teachers' are the grid's."""

    @property
    def cell(self) -> Cell:
        """A row of the grid: this student under each of its teachers."""
        return Cell("tradeoff", self.temperature, self.alpha, teachers="grid")
