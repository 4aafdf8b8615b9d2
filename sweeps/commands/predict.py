"""The command ``python -m sweeps.predict``: compute the predictions that a sweep has not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from analysis.selection.rule_options import load_plugins
from rkd_core import datasets, plugins, records
from rkd_core.device.execution import Execution
from rkd_core.errors import UserError
from rkd_core.records import Record, predictions
from rkd_core.records.predictions import SPLITS
from rkd_core.specs import DataOptions, TrainingSpec
from rkd_core.storage import files
from rkd_core.storage.files import Location, location
from rkd_core.text import json_text
from rkd_core.text.nouns import counted
from sweeps.cli.options import OptionalName, OptionalPath, Plugins
from sweeps.cli.options import Options as SweepOptions
from sweeps.cli.parse import parse
from sweeps.commands.entry import CommandLine
from sweeps.planning.settings import load_data
from sweeps.stop import Stop

__all__ = ["Options", "main", "run"]


@dataclass(frozen=True)
class Options:
    """Compute the predictions that completed trainings of a results folder lack.

    They come from the stored weights. Nothing is trained, and predictions that exist stay as they
    are, so the same command continues after an interrupt.
    """

    results: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """results of a sweep: a folder, s3:// or gs://"""
    dataset: OptionalName = None
    """data set of the sweep (default: as in the command of the sweep)"""
    data_dir: OptionalPath = None
    """folder to search for a named data set first (default: as in the command of the sweep)"""
    keep_predictions: Annotated[
        Literal["full", "top"] | None, tyro.conf.arg(metavar="full|top", help_behavior_hint="")
    ] = None
    """logits to keep of each image: all, or the five largest (default: full for splits with up to
    two million logits, else top)"""
    plugin: Plugins = ()
    """module or file that registers the data set (default: as in the command of the sweep);
    repeatable"""


def main(line: CommandLine, stop: Stop) -> int:
    """Run the command line; see ``sweeps.commands.entry.command``."""
    program = "python -m sweeps.predict" if line.program == "predict" else line.program
    return run(parse(line.arguments, program, Options))


def run(options: Options) -> int:
    """Compute the missing predictions; return 1 if a training has no usable artifact, else 0.

    Raises:
        UserError: It is not a results folder, or its data are not available.
    """
    from rkd_core.training.prediction import predict  # imports torch

    out = location(options.results)
    if not files.is_folder(out / "records"):
        raise UserError(f"{out} is not a results folder: it has no records")
    plugins.search(out)
    done, missing = _runs(out)
    if not missing:
        print(f"All {counted(done, 'training')} have predictions.")
        return 0
    loaded: dict[DataOptions, datasets.Dataset] = {}
    computed = failed = 0
    of_sweep = _options(out, options)
    for row in missing:
        run_id = row["run_id"]
        spec = TrainingSpec.model_validate_json(row["spec"])
        if spec.data not in loaded:
            loaded = {spec.data: _load(of_sweep, spec.data, row)}
        try:
            different = predict(
                out, run_id, loaded[spec.data], Execution.best(), options.keep_predictions
            )
        except UserError as error:
            print(f"{run_id}: {error}")
            failed += 1
            continue
        computed += 1
        if different:
            print(f"{run_id}: {different} correct predictions more or fewer than in its record")
    print(
        f"Computed the predictions of {counted(computed, 'training')}; {done} had theirs already."
    )
    return 1 if failed else 0


def _runs(out: Location) -> tuple[int, list[Record]]:
    """Return how many completed trainings have predictions, and the records of the others."""
    rows = [r for r in records.read(out / "records").to_pylist() if r["status"] == "completed"]
    present = [set(files.names(out / predictions.FOLDER / split)) for split in SPLITS]
    missing = [r for r in rows if not all(f"{r['run_id']}.parquet" in names for names in present)]
    # Trainings on the same data follow each other, so that the data are loaded once.
    return len(rows) - len(missing), sorted(missing, key=lambda r: (_data(r), r["run_id"]))


def _data(row: Record) -> str:
    return TrainingSpec.model_validate_json(row["spec"] or "").data.model_dump_json()


def _options(out: Location, options: Options) -> SweepOptions:
    """Return the options of the sweep, with the data set that is given here."""
    try:
        plan = json_text.parse_object(files.read(out / "plan.json"))
        words, named = list(plan["command"]), plan["settings"]["dataset"]
    except (OSError, ValueError, KeyError, TypeError):
        words, named = [], None
    found = SweepOptions()
    try:
        found = parse(_flags(words), "predict", SweepOptions)
    except (UserError, SystemExit):  # such as the options of paper.py
        if named is None and options.dataset is None:
            raise UserError(f"{out / 'plan.json'} does not name the data; give --dataset") from None
    load_plugins(options.plugin or found.extensions.plugin)
    name = options.dataset or (named if named in datasets.names() else found.data.dataset)
    data = replace(found.data, dataset=name)
    if options.data_dir is not None:
        data = replace(data, data_dir=options.data_dir)
    return replace(found, data=data)


def _flags(words: Sequence[str]) -> list[str]:
    """Return the options of a command line without the name of the program."""
    first = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[first:]]


def _load(options: SweepOptions, cut: DataOptions, row: Record) -> datasets.Dataset:
    dataset = load_data(options, cut=cut)
    if dataset.fingerprint != row["data_fingerprint"]:
        raise UserError(
            f"{options.data.dataset} is not the data set of run {row['run_id']}; name its data "
            "with --dataset"
        )
    return dataset
