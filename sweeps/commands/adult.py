"""The command ``adult.py``: distill forests on UCI Adult and report accuracies of subgroups."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rkd_core.errors import UserError
from rkd_core.tabular.forests import ForestRecipe
from sweeps.cli.flags import errors_as_flags
from sweeps.cli.options import OptionalInt, OptionalPath
from sweeps.cli.parse import parse
from sweeps.commands.entry import CommandLine
from sweeps.stop import Stop

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from analysis.papers.subgroups import Tally
    from rkd_core.tabular.adult import Adult

__all__ = ["Options", "main", "run"]

TRAIN_SHARE = 0.7
_MOST_SEED = 2**32 - 1
_OF_THE_PAPER = """
The tables of the paper count rows of adult.test, and its figures fit a threshold
near 1/3; to compare with them: --split published --threshold 0.33"""
_WHERE = ("data_dir", "threads", "out")  # options that do not affect the results


@dataclass(frozen=True)
class Options:
    """Distill a random forest into one tree on UCI Adult, and compare the accuracies of subgroups.

    Prints Tables 8 and 9 of Lukasik et al. (TMLR 2022) beside the measured figures. Choices that
    the paper does not state are options; --split published --threshold 0.33 fits its figures best.
    """

    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "--data-dir DIR",
        "--data-dir DIR --split published --threshold 0.33",
    )

    data_dir: OptionalPath = None
    """folder with adult.data and adult.test, or with a folder adult of them; then $RKD_DATA_DIR"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """repeat everything, including the random split, with each seed"""
    split: Literal["random", "published"] = "random"
    """random: train on 70 % of all rows, test on the rest; published: adult.data, adult.test"""
    threshold: float = 0.5
    """a score above this means label 1, for the teacher and both students"""
    alpha: float = ForestRecipe.alpha
    """weight of the teacher's score, against the label, in the target of the distilled student"""
    cross_fit: int = ForestRecipe.cross_fit
    """number of folds for scores by forests that have not seen the row; 0: in-sample scores"""
    no_bootstrap: bool = not ForestRecipe.bootstrap
    """fit the trees of the students to all training rows, not to a bootstrap sample"""
    encoding: Literal["ordinal", "one-hot"] = "ordinal"
    """encode a categorical column as a code in alphabetical order, or as a column for each value"""
    trees: int = ForestRecipe.trees
    """number of trees of the teacher; a student has one"""
    depth: int = ForestRecipe.depth
    """largest depth of each tree"""
    threads: OptionalInt = None
    """threads that fit the teacher (default: one per CPU core); results do not depend on it"""
    out: OptionalPath = None
    """write all figures, including those of each seed, to a .json file, or the tables to a .csv"""

    @property
    def recipe(self) -> ForestRecipe:
        """The recipe of the forests."""
        return ForestRecipe(
            self.trees, self.depth, self.alpha, self.cross_fit, not self.no_bootstrap
        )


def main(line: CommandLine, stop: Stop) -> int:
    """Run the command line; see ``sweeps.commands.entry.command``."""
    run(parse(line.arguments, line.program, Options))
    return 0


def run(options: Options) -> None:
    """Check the options, read the data, fit, and write and print the tables.

    Raises:
        UserError: An option is out of range, or the data are missing or not as published.
        OSError: The result cannot be written; it is still printed.
    """
    _check(options)

    from analysis.papers.adult import document, print_tables
    from analysis.papers.subgroups import stack
    from rkd_core.tabular import adult
    from rkd_core.text.console import Console

    with errors_as_flags():
        folder = adult.find(options.data_dir)
    data = adult.read(folder)
    parts = [_split(data, options, seed) for seed in options.seeds]
    console = Console(file=sys.stdout)
    for line in _what_is_done(options, data, folder):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    tallies = []
    with console.status("") as status:
        for i, (seed, rows) in enumerate(zip(options.seeds, parts, strict=True), start=1):
            status.update(f"seed {seed} ({i} of {len(parts)})")
            tallies.append(_one_seed(data, options, seed, *rows))
    tally = stack(tallies)
    try:  # write the file first, since printing may fail
        if options.out is not None:
            chosen = {name: value for name, value in asdict(options).items() if name not in _WHERE}
            _write(options.out, chosen, document(tally, options.seeds))
    finally:
        console.print()
        print_tables(tally, console)
        if options.split == "random":
            console.print(_OF_THE_PAPER, style="dim", highlight=False)
    if options.out is not None:
        console.print(f"Wrote {options.out}", highlight=False, markup=False, soft_wrap=True)


def _check(options: Options) -> None:
    """Check all options before the data are read."""
    for name, value, least in (
        ("trees", options.trees, 1),
        ("depth", options.depth, 1),
        ("threads", options.threads, 1),
    ):
        if value is not None and value < least:
            raise UserError(f"--{name} must be {least} or more, not {value}")
    for name, share in (("alpha", options.alpha), ("threshold", options.threshold)):
        if not (math.isfinite(share) and 0 <= share <= 1):
            raise UserError(f"--{name} must be from 0 to 1, not {share:g}")
    if options.cross_fit < 0 or options.cross_fit == 1:
        raise UserError(f"--cross-fit must be 0, or 2 or more folds, not {options.cross_fit}")
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise UserError("--seeds must be one or more different numbers")
    for seed in options.seeds:
        if not 0 <= seed <= _MOST_SEED:
            raise UserError(f"--seeds must be from 0 to {_MOST_SEED}, not {seed}")
    if (out := options.out) is not None:
        if out.suffix not in (".json", ".csv"):
            raise UserError(f"--out {out} must end in .json or .csv")
        if not out.parent.is_dir() or out.is_dir():
            raise UserError(f"--out {out} must be a file in a folder that exists")


def _split(data: Adult, options: Options, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows for training and for testing.

    Raises:
        UserError: A label has too few rows to fit or to measure.
    """
    import numpy as np

    if options.split == "published":
        train, test = np.flatnonzero(~data.published_test), np.flatnonzero(data.published_test)
    else:
        shuffled = np.random.default_rng(seed).permutation(len(data))
        train, test = np.split(shuffled, [round(TRAIN_SHARE * len(data))])
    least = max(options.cross_fit, 1)
    for rows, what, needed in ((train, "training", least), (test, "test", 1)):
        rarer = min(data.label[rows].sum(), (~data.label[rows]).sum())
        if rarer < needed:
            raise UserError(
                f"only {rarer} of the {len(rows)} {what} rows of seed {seed} have one of the "
                f"labels: at least {needed} must have each"
            )
    return train, test


def _one_seed(
    data: Adult, options: Options, seed: int, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Tally:
    """Fit, and count the correct predictions in each subgroup."""
    import numpy as np

    from analysis.papers.adult import GROUPS
    from analysis.papers.subgroups import count
    from rkd_core.tabular.forests import distill

    features = data.ordinal() if options.encoding == "ordinal" else data.one_hot()
    threads = options.threads or os.cpu_count() or 1
    scores = distill(
        features[train], data.label[train], features[test], options.recipe, seed, threads
    )
    masks = []
    for group in GROUPS:
        mask = data.label == bool(group.label)
        for column, value in (("sex", group.sex), ("race", group.race)):
            if value is not None:
                mask &= data.has(column, value)
        masks.append(mask[test])
    truth = data.label[test]
    right = [
        (of_model > options.threshold) == truth
        for of_model in (scores.teacher, scores.one_hot, scores.distilled)
    ]
    return count(np.array(masks), *right)


def _what_is_done(options: Options, data: Adult, folder: Path) -> list[str]:
    """Describe the choices that the paper does not state."""
    rows, test = len(data), int(data.published_test.sum())
    split = {
        "random": "a random 70/30 split for each seed",
        "published": f"the published split, {rows - test:,} for training and {test:,} for testing",
    }
    scored = f"cross-fitted in {options.cross_fit} folds" if options.cross_fit else "in-sample"
    fitted = "all rows" if options.no_bootstrap else "a resample of the rows (bootstrap)"
    seeds = " ".join(map(str, options.seeds))
    return [
        f"UCI Adult, {folder}: {rows:,} rows, {int(data.incomplete.sum()):,} with missing values "
        "(kept, as a value of their own)",
        f"Split    {split[options.split]}; seeds {seeds}",
        f"Teacher  {options.trees} trees, depth {options.depth}, {options.encoding} features; "
        f"{scored} scores",
        f"Student  one tree, depth {options.depth}, of {fitted}; target "
        f"{1 - options.alpha:.3g} label + {options.alpha:.3g} score (one-hot: label)",
        f"Label 1  where a score is above {options.threshold:g}",
    ]


def _write(path: Path, chosen: dict[str, Any], figures: dict[str, Any]) -> None:
    from analysis.papers.adult import to_csv
    from analysis.views.selection_json import write_json
    from rkd_core.storage.files import replace_file

    if path.suffix == ".csv":
        replace_file(path, to_csv(figures).encode())
    else:
        write_json(path, {"schema_version": 1, "options": chosen, **figures})
