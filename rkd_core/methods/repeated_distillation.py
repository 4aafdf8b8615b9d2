"""Repeated distillation, with students as teachers (Lukasik et al., TMLR 2022, Table 10)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class RepeatedDistillation(SoftTeacher):
    """Repeated distillation: the student of each round is the teacher of the next round."""

    name = "repeated_distillation"
    grid: ClassVar[Grid] = {"rounds": (2, 3)}

    rounds: int = Field(default=3, ge=1)
    """Number of distillations."""

    @property
    def cell(self) -> Cell:
        """The standard student of the last round; one round is plain distillation."""
        return Cell("standard", self.temperature, rounds=self.rounds)
