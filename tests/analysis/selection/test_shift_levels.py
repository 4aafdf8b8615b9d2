"""Posteriors of strengths of a shift, side by side."""

from pathlib import Path

import numpy as np

from analysis.runs.combinations import combine
from analysis.runs.loading import load
from analysis.selection.posterior import Posterior, fit
from analysis.selection.shift_levels import ShiftLevels, fit_levels
from tests.analysis import shifted_worlds
from tests.analysis.runs.test_shifted import grid


def test_each_strength_has_the_posterior_of_its_own_counts(tmp_path: Path) -> None:
    c = combine(load(shifted_worlds.write(tmp_path, grid(seeds=2))).candidates)
    found = fit_levels(c)
    assert isinstance(found, ShiftLevels)
    expected = [fit(c.part(level)) for level in c.levels()]
    for part, alone in zip(found.parts, expected, strict=True):
        assert alone is not None
        assert (part.mean == alone.mean).all()
        assert (part.seed == alone.seed).all()
    assert found.mean.shape == (len(c), 3)
    assert found.recalls().shape == (len(c), 3)
    assert [found.at(i) for i in (0, 3, 4, 23)] == [
        found.parts[0],
        found.parts[0],
        found.parts[1],
        found.parts[-1],
    ]


def test_draws_of_strengths_are_independent_and_repeat(tmp_path: Path) -> None:
    c = combine(load(shifted_worlds.write(tmp_path, grid(seeds=2))).candidates)
    found = fit_levels(c)
    assert isinstance(found, ShiftLevels)
    first = np.array([draw.worst_k for draw in found.draws(500, 1)])
    again = np.concatenate([many.worst_k for many in found.many(500, 1)])
    assert first.shape == (500, len(c))
    assert (first == again).all()
    correlation = np.corrcoef(first.T)
    assert abs(correlation[:4, 4:8]).max() < 0.2
    alone = found.parts[0]
    assert (first[:, :4] == np.array([d.worst_k for d in alone.draws(500, 1)])).all()
    recalls = np.concatenate([many.recalls for many in found.many(500, 1)])
    assert recalls.shape == (500, len(c), 3)
    assert (recalls[:, :4] == np.array([d.recalls for d in alone.draws(500, 1)])).all()
    apart = recalls.mean(axis=0) - found.recalls()
    assert np.abs(apart).max() < 0.02  # each strength has the recalls of its own posterior


def test_noise_that_one_seed_cannot_reveal_is_that_of_students_without_a_shift(
    tmp_path: Path,
) -> None:
    c = combine(load(shifted_worlds.write(tmp_path, grid(), gain=15)).candidates)
    found = fit_levels(c)
    assert isinstance(found, ShiftLevels)
    first = fit(c.part(c.levels()[0]))
    assert first is not None
    assert found.untold.any()
    assert (found.untold == first.untold).all()
    assert not (found.untold == found.parts[-1].untold).all()


def test_without_shifts_there_is_one_posterior(tmp_path: Path) -> None:
    c = combine(load(shifted_worlds.write(tmp_path, grid())).students)
    assert isinstance(fit_levels(c), Posterior)
