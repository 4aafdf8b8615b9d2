"""The command ``paper.py``: a sweep for each part of a table, then the table."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.papers import ADULT, TABLES, table
from analysis.papers.definitions import Part, Table
from analysis.papers.measure import measure
from analysis.papers.printing import document, markdown, print_measured
from analysis.selection.rule_options import Rule
from rkd_core import records
from rkd_core.errors import UserError, require
from rkd_core.storage.files import Location, make_folder, replace_file
from rkd_core.text.console import Console
from sweeps.cli.method_names import DEFAULT
from sweeps.cli.options import Economy, OptionalPath, Options
from sweeps.cli.parse import parse
from sweeps.commands.adult import Options as AdultOptions
from sweeps.commands.adult import run as run_adult
from sweeps.commands.entry import CommandLine
from sweeps.commands.pareto import run as sweep
from sweeps.display.summary import print_failures
from sweeps.planning.cluster import Cluster
from sweeps.planning.defaults import Scale
from sweeps.planning.plan import Plan
from sweeps.running.sweep import Failure
from sweeps.stop import Stop

__all__ = ["PaperOptions", "main"]


@dataclass(frozen=True)
class PaperOptions(Options):
    """Train what a table of the papers needs, and print the measured figures beside the published.

    The table determines methods, objectives and temperatures and, if it states them, networks and
    imbalance; all other options are those of pareto.py. Completed trainings are reused.
    """

    LEADING: ClassVar[str] = "--table"
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "list",
        "wang-1 --dataset cifar10-lt --seeds 0,1,2",
    )

    table: str = "list"
    """wang-1, wang-2, pet-1, pet-3, ..., or list"""
    save: OptionalPath = None
    """also write the table (.md, .json) and its records (.parquet) to this folder"""


def main(line: CommandLine, stop: Stop) -> int:
    """Train the missing runs, print the table, and return the exit code.

    Raises:
        UserError: Bad input; nothing has been trained.
    """
    options = parse(line.arguments, line.program, PaperOptions)
    console = Console(file=sys.stdout)
    if options.table == "list":
        _list(console)
        return 0
    if options.table in ADULT:
        _adult(options)
        return 0
    dataset = _dataset(options)
    wanted = table(options.table, dataset)
    if options.grid.methods != DEFAULT:
        raise UserError("the table determines --methods; leave it out")
    if options.economy != Economy():
        raise UserError("a table needs all of its runs: leave out --search, --budget, --prune, ...")
    if options.training.teacher_logits is not None:
        raise UserError("the table trains its own teachers: leave out --teacher-logits")
    scale = _scale(options)
    wanted = wanted if scale == "paper" else wanted.small
    code, parts = 0, {}
    for place in sorted({cell.part for cell in wanted.cells}):
        part = _Part()
        ended = sweep(_options(options, wanted.parts[place], scale), line.typed, stop, part)
        if part.out is not None:
            parts[place] = records.read(part.out / "records", part.run_ids)
            folder = part.out
        code = max(code, ended)
    if not parts:  # a dry run
        return code
    measured = measure(wanted, parts)
    seeds = len(options.grid.seeds)
    title = f"{dataset}, {scale} scale, {seeds} seed{'' if seeds == 1 else 's'}"
    name = f"{wanted.name}-{Path(dataset).name}"
    texts = {
        f"{name}.md": markdown(measured, title),
        f"{name}.json": json.dumps(document(measured), indent=1) + "\n",
    }
    places = [folder / "paper", *([] if options.save is None else [options.save])]
    try:  # write files first, since printing may fail
        for target in places:
            make_folder(target)
            for file, text in texts.items():
                replace_file(target / file, text.encode())
        if options.save is not None:
            table_of_runs = pa.concat_tables(parts.values())
            pq.write_table(table_of_runs, options.save / f"{name}.parquet", compression="zstd")
    finally:
        console.print()
        print_measured(measured, title, console)
    said = " and ".join(str(place) for place in places)
    console.print(f"Wrote {name} into {said}", highlight=False, markup=False, soft_wrap=True)
    return code


class _Part:
    """Conclusion of the sweep of a part, which keeps its runs instead of selecting."""

    def __init__(self) -> None:
        self.out: Location | None = None
        self.run_ids: list[str] = []

    def __call__(
        self,
        plan: Plan,
        out: Location,
        rule: Rule,
        failures: Sequence[Failure],
        errors: Console,
    ) -> int:
        print_failures(errors, failures, len(plan), out / "sweep.log")
        self.out, self.run_ids = out, [run.run_id for run in plan.runs]
        return 1 if failures else 0


def _options(options: PaperOptions, part: Part, scale: Scale) -> Options:
    """Return the options of the sweep of a part; the table overrides the command line."""
    data, grid, training = options.data, options.grid, options.training
    networks = part.networks if scale == "paper" else part.small_networks
    teacher, students = training.teacher_architecture, training.student_architecture
    if networks is not None:
        teacher, students = networks[0], (networks[1],)
    require(len(students or ()) <= 1, "a table has one --student-architecture")
    return dataclasses.replace(
        options,
        data=dataclasses.replace(data, imbalance=part.imbalance or data.imbalance),
        grid=dataclasses.replace(
            grid,
            methods=part.methods,
            undistilled=False,
            alphas=part.alphas or grid.alphas,
            temperatures=part.temperatures or grid.temperatures,
        ),
        training=dataclasses.replace(
            training, scale=scale, teacher_architecture=teacher, student_architecture=students
        ),
    )


def _dataset(options: PaperOptions) -> str:
    """Return the name of the data set in tables, such as ``imagenet-100`` for 100 classes."""
    name, classes = options.data.dataset, options.data.classes
    return name if classes is None else f"{name.rstrip('/')}-{classes}"


def _scale(options: PaperOptions) -> Scale:
    if options.training.scale is not None:
        return options.training.scale
    if options.machine.address is not None:
        raise UserError("--address requires --scale paper or --scale small")
    return "paper" if Cluster.local(options.machine).gpus > 0 else "small"


def _adult(options: PaperOptions) -> None:
    """Print Tables 8 and 9, with the split and the threshold that fit the figures of the paper."""
    seeds, out = options.grid.seeds, None
    if options.save is not None:
        make_folder(options.save)
        out = options.save / "pet-8-9-adult.json"
    run_adult(
        AdultOptions(
            data_dir=options.data.data_dir,
            split="published",
            threshold=0.33,
            seeds=seeds if seeds != (0,) else AdultOptions.seeds,
            out=out,
        )
    )


def _list(console: Console) -> None:
    for name in TABLES:
        known: Table = TABLES[name]("cifar100-lt")
        console.print(f"{name:<14} {known.source}", highlight=False)
    for name in ADULT:
        console.print(f"{name:<14} Lukasik et al. (TMLR 2022), Table {name[-1]}", highlight=False)
