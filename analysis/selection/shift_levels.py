"""Posteriors of a grid with several networks, or with several strengths of a shift.

Each network and each strength has a posterior of its own. A student and its shifts share images and
weights, so the model of ``analysis.selection.posterior``, in which the noise of rows is
independent, does not hold across strengths. The posteriors are taken as independent, so intervals
of differences between strengths, or between networks, are wide rather than narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import tee
from operator import itemgetter

import numpy as np

from analysis.runs.columns import FloatArray
from analysis.runs.combinations import Combinations
from analysis.selection.effects import Effects
from analysis.selection.pairing import Pairing, pairing
from analysis.selection.posterior import Draw, Posterior, draw_blocks, fit

__all__ = ["ShiftLevels", "fit_levels"]


@dataclass(frozen=True, eq=False)
class ShiftLevels:
    """Independent posteriors of consecutive combinations, one for each strength and network."""

    parts: tuple[Posterior, ...]
    paired: Pairing | None = None
    """Joint noise of all strengths; None for independent noise."""

    @cached_property
    def mean(self) -> FloatArray:
        """Posterior means on the arcsine scale, ``(combinations, present)``."""
        return np.concatenate([part.mean for part in self.parts])

    @property
    def present(self) -> np.ndarray:
        """Mask of the classes that have images, shape ``(classes,)``."""
        return self.parts[0].present

    @property
    def shared(self) -> float:
        """Lower bound of the share of image noise that runs have in common; NaN with one seed."""
        return self.parts[0].shared

    @property
    def untold(self) -> FloatArray:
        """Standard deviation of the image noise that unshifted runs may share, ``(present,)``."""
        return self.parts[0].untold

    def at(self, index: int) -> Posterior:
        """Return the posterior that a combination belongs to."""
        ends = np.cumsum([len(part.mean) for part in self.parts])
        return self.parts[int(np.searchsorted(ends, index, side="right"))]

    def blocks(self, number: int) -> list[slice]:
        """Return slices of draws to process at a time."""
        return draw_blocks(number, self.mean.size)

    def draws(self, number: int, worst_k: int) -> Iterator[Draw]:
        """Yield draws from the posteriors; every call yields the same ones."""
        for many in self.many(number, worst_k):
            yield from many

    def many(self, number: int, worst_k: int, untold: bool = False) -> Iterator[Draw]:
        """Yield the arrays of ``draws`` in blocks; see ``Posterior.many``."""
        blocks = self.blocks(number)
        levels = [
            part.many(number, worst_k, untold, blocks, seed, shocks)
            for seed, (part, shocks) in enumerate(
                zip(self.parts, self._shocks(blocks), strict=True)
            )
        ]
        for draws in zip(*levels, strict=True):
            yield Draw(
                np.concatenate([one.recalls for one in draws], axis=1),
                np.concatenate([one.worst_k for one in draws], axis=1),
            )

    def _shocks(
        self, blocks: Sequence[slice]
    ) -> list[Iterator[tuple[FloatArray, FloatArray]] | None]:
        """Return the draws of each strength, from joint draws of all."""
        if self.paired is None:
            return [None for _ in self.parts]
        ends = np.cumsum([len(part.mean) for part in self.parts])[:-1]
        split = (
            list(zip(*(np.split(one, ends, axis=1) for one in shock), strict=True))
            for shock in self.paired.blocks(blocks)
        )
        return [
            map(itemgetter(place), draws) for place, draws in enumerate(tee(split, len(self.parts)))
        ]

    def recalls(self) -> FloatArray:
        """Return expected recalls of a further seed, ``(combinations, classes)``; NaN if absent."""
        return np.concatenate([part.recalls() for part in self.parts])


def fit_levels(combinations: Combinations) -> Posterior | ShiftLevels | None:
    """Fit a posterior to each strength of the shift and each network.

    With outcomes, all of them have joint noise, and all strengths of a network have the kernel and
    the number of directions that are chosen for its trained students.

    Returns:
        The posterior of all combinations if there is one; None if the runs were measured
        on different numbers of images.
    """
    known: list[Posterior] = []
    trained: dict[str | None, Effects] = {}
    for level in combinations.levels():
        part = combinations.part(level)
        network = part.networks[0] if part.networks else None
        alike = trained.get(network) if combinations.outcomes is not None else None
        found = fit(part, alike)
        if found is None:
            return None
        trained.setdefault(network, found.effects)
        known.append(found)
    return known[0] if len(known) == 1 else ShiftLevels(tuple(known), pairing(combinations))
