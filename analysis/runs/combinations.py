"""Combinations of network, teacher, student and temperature, one row each, with their runs.

Validation and test counts are in two types that do not refer to each other. Selection receives only
``Combinations``, which has no test column. ``HeldOut`` holds the test counts by run id; only
tables, figures and the exported report read it, after the choice is made.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.runs.columns import (
    FloatArray,
    IntArray,
    array,
    counts,
    doubles,
    objective_places,
    required,
)
from analysis.runs.means import Means, mean_and_error, mean_recalls, over_seeds
from analysis.runs.outcomes import Outcomes
from analysis.runs.scores import Scores
from rkd_core.errors import UserError
from rkd_core.metrics import average_accuracy, binomial_error, recalls
from rkd_core.text.numbers import plural

__all__ = ["Combinations", "HeldOut", "Means", "combine"]

_SETTINGS = ("teacher_objective", "alpha_t", "student_objective", "alpha_s", "temperature")
_READ = (
    "variant",
    "tuned",
    "run_id",
    "teacher_id",
    "seed",
    *_SETTINGS,
    "val_class_total",
    "val_class_correct",
)


_OPTIONAL = ("architecture", "epochs")
"""Columns without which all combinations have the same network."""


@dataclass(frozen=True, eq=False)
class Combinations:
    """Combinations in a fixed order with their runs, on validation only.

    The runs of combination ``i`` are ``start[i]:start[i] + seeds[i]``, ordered by seed.
    """

    teacher_objective: IntArray
    """Index into ``objective_names()``, ``(combinations,)`` like all settings; -1 where null."""
    alpha_t: FloatArray
    """NaN if not applicable, like ``alpha_s`` and ``temperature``."""
    student_objective: IntArray
    alpha_s: FloatArray
    temperature: FloatArray
    variant: pa.Array
    """Method and its options; null for a combination of the grid."""
    tuned: pa.Array
    """Changes that a search made to the recipe; null for the sweep's own recipe."""
    shift: FloatArray
    """Strength of the shift of the logits, see ``rkd_core.records.shifts``; NaN for none."""
    network: pa.Array
    """Architecture; null where it is unknown, and for teachers that were changed untrained."""

    start: IntArray
    seeds: IntArray
    """Number of seeds of each combination, shape ``(combinations,)``."""

    run_id: pa.Array
    """Trained students, shape ``(runs,)``, like ``teacher_id`` and ``seed``; a student and its
    shifts have the same run id."""
    teacher_id: pa.Array
    seed: IntArray
    class_total: IntArray
    """Validation images per class, shape ``(runs, classes)``."""
    class_correct: IntArray
    """Correct predictions; of a shifted student by shifts fitted to other images."""
    outcomes: Outcomes | None = None
    """Correctness of each run on each validation image; None if unknown or not to be used."""
    scores: Scores | None = None
    """Scores by a metric; None if the rule uses accuracies only, and in parts."""

    def __len__(self) -> int:
        return int(self.start.size)

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """Architectures in alphabetical order."""
        return tuple(sorted(self.network.unique().drop_null().to_pylist()))

    def of_network(self, name: str | None) -> NDArray[np.bool_]:
        """Return a mask of the combinations with this architecture, shape ``(combinations,)``."""
        if name is None:
            return np.asarray(self.network.is_null().to_numpy(zero_copy_only=False))
        return np.asarray(pc.fill_null(pc.equal(self.network, name), False).to_numpy(False))

    @cached_property
    def unshifted(self) -> NDArray[np.bool_]:
        """Mask of the combinations without a shift, shape ``(combinations,)``."""
        return np.isnan(self.shift)

    @property
    def students(self) -> int:
        """Number of trained students."""
        return int(self.seeds[self.unshifted].sum())

    @property
    def count(self) -> str:
        """Number of combinations in words, such as ``108 combinations, shifted or not``."""
        number = plural(int(self.unshifted.sum()), "combination")
        return number if self.unshifted.all() else f"{number}, shifted or not"

    @cached_property
    def share(self) -> FloatArray:
        """Share of each class in the validation images of the first run, shape ``(classes,)``."""
        return np.asarray(self.class_total[0] / self.class_total[0].sum())

    def runs(self, index: int) -> slice:
        """Return the slice of the runs of one combination."""
        return slice(int(self.start[index]), int(self.start[index] + self.seeds[index]))

    def aside(self, index: int) -> str:
        """Return network, shift and changes to the recipe, such as ``, shifted 0.5``.

        The network is left out if there is only one. Without any of them, the text is empty.
        """
        shift = self.shift[index]
        shifted = "" if np.isnan(shift) else f", shifted {shift:g}"
        return self._network_name(index) + shifted + self._tuned(index)

    def without_shift(self, index: int) -> str:
        """Return network and changes to the recipe; empty without any."""
        return self._network_name(index) + self._tuned(index)

    def _network_name(self, index: int) -> str:
        network = self.network[index]
        return f", {network}" if len(self.networks) > 1 and network.is_valid else ""

    def _tuned(self, index: int) -> str:
        tuned = self.tuned[index].as_py()
        return f" ({tuned})" if tuned else ""

    def run_ids(self, index: int) -> list[str]:
        """Return the run ids of one combination, ordered by seed."""
        return list(self.run_id[self.runs(index)].to_pylist())

    def means(self, worst_k: int = 1) -> Means:
        """Return validation accuracies, with ``worst_k`` classes in the worst-k accuracy.

        Raises:
            UserError: ``worst_k`` is below 1 or above the number of classes present.
        """
        return over_seeds(self, self.class_correct, self.class_total, worst_k)

    def counted_average(self) -> tuple[FloatArray, FloatArray]:
        """Return validation average accuracies and binomial standard errors, ``(combinations,)``.

        All images of all seeds count as independent.
        """
        average = average_accuracy(self.class_correct, self.class_total)
        average = np.add.reduceat(average, self.start) / self.seeds
        images = np.add.reduceat(self.class_total.sum(axis=1), self.start)
        return average, np.sqrt(np.maximum(average * (1 - average), 0) / images)

    def recalls(self) -> FloatArray:
        """Return mean validation recalls over seeds, ``(combinations, classes)``; NaN if absent."""
        r = recalls(self.class_correct, self.class_total)
        return np.asarray(np.add.reduceat(r, self.start) / self.seeds[:, None])

    def balanced_error(self) -> FloatArray:
        """Return the standard error of the balanced accuracy, ``(combinations,)``."""
        r = recalls(self.class_correct, self.class_total)
        _, error = mean_and_error(np.nanmean(r, axis=1), self.start, self.seeds)
        first = r[self.start]
        of_classes = binomial_error(first, self.class_total[self.start])
        binomial = np.sqrt(np.nansum(np.where(np.isfinite(first), of_classes, 0) ** 2, axis=1))
        return np.where(self.seeds == 1, binomial / np.isfinite(first).sum(axis=1), error)

    def levels(self) -> list[slice]:
        """Return the slices of combinations with the same strength and network.

        The unshifted ones come first.
        """
        differs = np.diff(np.where(self.unshifted, -1.0, self.shift)) != 0
        if len(self.networks) > 1:
            differs |= np.diff(_ranks(self.network, of_null=0)) != 0
        ends = np.flatnonzero(differs) + 1
        bounds = [0, *ends.tolist(), len(self)]
        return [slice(*pair) for pair in pairwise(bounds)] if len(self) else []

    @cached_property
    def level(self) -> IntArray:
        """Index of each combination's slice in ``levels``, shape ``(combinations,)``."""
        return np.repeat(np.arange(len(self.levels())), [p.stop - p.start for p in self.levels()])

    def keys(self) -> pa.Array:
        """Return keys of the runs for ``HeldOut``."""
        return _keys(self.run_id, np.repeat(self.shift, self.seeds))

    def only(self, index: int) -> Combinations:
        """Return one combination by itself."""
        return self.part(slice(index, index + 1))

    def part(self, one: slice) -> Combinations:
        """Return consecutive combinations by themselves."""
        runs = slice(self.runs(one.start).start, self.runs(one.stop - 1).stop)
        return self._cut(one, runs)

    def take(self, rows: IntArray) -> Combinations:
        """Return some combinations by themselves."""
        runs = [np.arange(r.start, r.stop) for r in map(self.runs, rows.tolist())]
        cut = self._cut(rows, np.concatenate(runs) if runs else np.zeros(0, dtype=np.int64))
        s = self.scores
        return replace(cut, scores=s and Scores(s.values[rows], s.drawn[:, rows]))

    def _cut(self, rows: slice | IntArray, runs: slice | IntArray) -> Combinations:
        of_runs = ("run_id", "teacher_id", "seed", "class_total", "class_correct")
        of_rows = [f.name for f in fields(self) if f.name not in ("outcomes", "scores")]
        cut = {}
        for name in of_rows:
            at, column = runs if name in of_runs else rows, getattr(self, name)
            by_place = isinstance(column, pa.Array) and not isinstance(at, slice)
            cut[name] = column.take(pa.array(at)) if by_place else column[at]
        cut["start"] = np.cumsum(cut["seeds"]) - cut["seeds"]
        return Combinations(**cut, outcomes=self.outcomes and self.outcomes.part(runs))

    def mean_recalls(self) -> FloatArray:
        """Return mean validation recalls over all runs, ``(classes,)``; NaN if absent."""
        return mean_recalls(self.class_correct, self.class_total)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Test counts by run and shift, which no selection accepts."""

    key: pa.Array
    """Run ids, with the strength of the shift if there is one."""
    class_total: IntArray
    """Test images per class, shape ``(runs, classes)``."""
    class_correct: IntArray

    @classmethod
    def of(cls, table: pa.Table) -> HeldOut:
        """Return the test counts of a table of completed records.

        Raises:
            UserError: A record lacks its test counts, or has no test image.
        """
        shift = _shift(table)
        table = table.select(["run_id", "test_class_total", "test_class_correct"]).combine_chunks()
        total, correct = counts(table, "test")
        return cls(_keys(array(table, "run_id"), shift), total, correct)

    def counts(self, combinations: Combinations) -> tuple[IntArray, IntArray]:
        """Return correct predictions and images of each run, both ``(runs, classes)``."""
        rows = self._rows(combinations.keys())
        return self.class_correct[rows], self.class_total[rows]

    def means(self, combinations: Combinations, worst_k: int = 1) -> Means:
        """Return test accuracies of the combinations, as in ``Combinations.means``."""
        correct, total = self.counts(combinations)
        return over_seeds(combinations, correct, total, worst_k)

    def mean_recalls(self, combinations: Combinations) -> FloatArray:
        """Return mean test recalls over all runs, ``(classes,)``; NaN if absent."""
        correct, total = self.counts(combinations)
        return mean_recalls(correct, total)

    def _rows(self, keys: pa.Array) -> IntArray:
        found = pc.index_in(keys, value_set=self.key)
        if found.null_count:
            raise KeyError("a run has no test counts here")
        return np.asarray(found.to_numpy(), dtype=np.int64)


def combine(table: pa.Table) -> Combinations:
    """Group completed records by their settings, and each group by seed.

    Args:
        table: Completed records in the columns of ``rkd_core.records.SCHEMA``: students of one
            family, teachers (whose student settings are null), or students of other methods (whose
            ``variant`` is not null). No test column is read. A column ``shift`` marks shifted
            students; without it there are none.

    Raises:
        UserError: Two runs have the same settings and seed, or a record is incomplete.
    """
    shift = _shift(table)
    present = [name for name in (*_READ, *_OPTIONAL) if name in (*_READ, *table.column_names)]
    table = table.select(present).combine_chunks()
    pa.default_memory_pool().release_unused()  # Arrow would keep the memory for a while
    total, correct = counts(table, "val")
    for name in ("run_id", "seed"):
        required(table, name)
    variant = array(table, "variant")
    if variant.null_count:
        on_grid = table.select(["run_id", "teacher_objective"]).filter(pc.is_null(variant))
        required(on_grid.combine_chunks(), "teacher_objective")
    teacher, student = (
        objective_places(table, name) for name in ("teacher_objective", "student_objective")
    )
    numbers = [doubles(table, name) for name in ("alpha_t", "alpha_s", "temperature")]
    alpha_t, alpha_s, temperature = numbers
    seed = array(table, "seed").to_numpy()
    nulls_first = [
        np.where(np.isnan(column), -1.0, column)  # none is below 0
        for column in (alpha_t, alpha_s, temperature, shift)
    ]
    tuned = array(table, "tuned")
    network = _networks(table)
    names = _ranks(network, of_null=0), _ranks(variant), _ranks(tuned)
    of_grid = teacher, nulls_first[0], student, nulls_first[1], nulls_first[2]
    settings = (nulls_first[3], *names, *of_grid)

    order = np.lexsort((seed, *reversed(settings)))
    differs = np.zeros(max(len(order) - 1, 0), dtype=bool)
    for column in settings:
        differs |= np.diff(column[order]) != 0
    run_id = array(table, "run_id").take(pa.array(order))
    seed = seed[order]
    twice = np.flatnonzero(~differs & (np.diff(seed) == 0))
    if twice.size:
        one, other = run_id[int(twice[0])], run_id[int(twice[0]) + 1]
        raise UserError(
            f"runs {one} and {other} have the same combination and seed; "
            "move one of the two records away, or name the runs to compare"
        )
    start = np.flatnonzero(np.r_[True, differs]) if len(order) else np.zeros(0, dtype=np.int64)
    first = order[start]
    return Combinations(
        teacher_objective=teacher[first],
        alpha_t=alpha_t[first],
        student_objective=student[first],
        alpha_s=alpha_s[first],
        temperature=temperature[first],
        variant=variant.take(pa.array(first)),
        tuned=tuned.take(pa.array(first)),
        shift=shift[first],
        network=network.take(pa.array(first)),
        start=start,
        seeds=np.diff(np.r_[start, len(order)]),
        run_id=run_id,
        teacher_id=array(table, "teacher_id").take(pa.array(order)),
        seed=seed,
        class_total=total.take(order, axis=0),  # three times as fast as total[order]
        class_correct=correct.take(order, axis=0),
    )


def _shift(table: pa.Table) -> FloatArray:
    """Return the strengths of the shifts, NaN for none."""
    if "shift" not in table.column_names:
        return np.full(len(table), np.nan)
    return np.asarray(table["shift"].to_numpy(), dtype=np.float64)


def _keys(run_id: pa.Array, shift: FloatArray) -> pa.Array:
    if np.isnan(shift).all():  # possibly a million of them
        return run_id
    pairs = zip(run_id.to_pylist(), shift.tolist(), strict=True)
    return pa.array([r if np.isnan(s) else f"{r} shifted {s:g}" for r, s in pairs], pa.string())


def _networks(table: pa.Table) -> pa.Array:
    """Return the architectures of trained networks; null for those of other networks."""
    if not {*_OPTIONAL} <= {*table.column_names}:
        return pa.nulls(len(table), pa.string())
    trained = pc.not_equal(array(table, "epochs"), 0)
    return pc.if_else(pc.fill_null(trained, True), array(table, "architecture"), None)


def _ranks(values: pa.Array, of_null: int = -1) -> IntArray:
    """Return ranks in alphabetical order, the same for equal texts."""
    encoded = values.dictionary_encode()
    rank = np.argsort(pc.sort_indices(encoded.dictionary).to_numpy())
    places = pc.fill_null(encoded.indices, -1).to_numpy()
    return np.where(places < 0, of_null, np.r_[rank, -1][places])
