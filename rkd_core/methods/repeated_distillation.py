"""Students as teachers: the ablation of Lukasik et al. (TMLR 2022), Table 10."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from rkd_core.methods.common.protocol import Cell, Grid, SoftTeacher


class RepeatedDistillation(SoftTeacher):
    """Distillation several times over: each round's student is the next round's teacher."""

    name = "repeated_distillation"
    grid: ClassVar[Grid] = {"rounds": (2, 3)}

    rounds: int = Field(default=3, ge=1)

    @property
    def cell(self) -> Cell:
        """The standard student at the end of the chain; one round is plain distillation."""
        return Cell("standard", self.temperature, rounds=self.rounds)
