"""Comparison of every file of a results folder with its checksum, and repair.

Each damaged file is reported on its own line. ``--repair`` sets it aside under a hidden name
that is never read, so that the next run of the sweep repeats only the affected training. Only files
that can be recreated without training are deleted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from rkd_core import records
from rkd_core.errors import UserError
from rkd_core.plugins import code
from rkd_core.records import Record, predictions, shifts
from rkd_core.records.predictions import SPLITS, Split
from rkd_core.results import artifacts, checkpoints, initial_weights, ledger
from rkd_core.storage import bundles, files
from rkd_core.storage.files import Location
from rkd_core.teachers import given_logits, table_or_live
from rkd_core.text import json_text
from sweeps.commands.entry import CommandLine
from sweeps.stop import Stop

__all__ = ["Damage", "examine", "main", "sweep_leftovers"]

_AT_ONCE = 8  # files that are checked concurrently


@dataclass(frozen=True)
class Damage:
    """Damaged file or missing record."""

    line: str
    """Description with the path."""
    repair: Callable[[], object]
    """Function that brings the folder into a state from which the next sweep continues."""


def examine(out: Location) -> Iterator[Damage]:
    """Compare all files of a results folder with their checksums.

    Yields:
        The damage found, run by run.
    """
    tasks = [*_results(out), *_caches(out)]
    with ThreadPoolExecutor(_AT_ONCE, "verify") as pool:
        for damages in pool.map(lambda task: task(), tasks):
            yield from damages


Task = Callable[[], list[Damage]]


def _results(out: Location) -> Iterator[Task]:
    """Yield the checks of what only training, or the artifacts, can recreate."""
    for run_id in _names(out / "artifacts"):
        yield partial(_artifact, out, run_id)
    for name in _names(out / "records"):
        if name.endswith(".parquet") and not name.startswith("_"):
            yield partial(_record, out, out / "records" / name)
    for split in SPLITS:
        for name in _names(out / predictions.FOLDER / split):
            if name.endswith(".parquet"):
                yield partial(_predictions, out, split, name.removesuffix(".parquet"))
    for name in _names(out / shifts.FOLDER):
        yield partial(_shifts, out / shifts.FOLDER / name)


def _caches(out: Location) -> Iterator[Task]:
    """Yield the checks of bundles that the next sweep recreates without training."""
    for run_id in _names(out / checkpoints.FOLDER):
        for name in _names(out / checkpoints.FOLDER / run_id):
            yield partial(
                _cache, out / checkpoints.FOLDER / run_id / name, checkpoints.FILE, run_id
            )
    for name in _names(out / table_or_live.FOLDER):
        path = out / table_or_live.FOLDER / name
        yield partial(_cache, path, table_or_live.FILE, name.split("-")[0])
    for folder, file in (
        (code.FOLDER, code.FILE),
        (code.PLUGINS, code.FILE),
        (initial_weights.FOLDER, initial_weights.FILE),
        (given_logits.FOLDER, given_logits.FILE),
    ):
        for digest in _names(out / folder):
            yield partial(_cache, out / folder / digest, file, digest)


def _cache(path: Location, name: str, run_id: str) -> list[Damage]:
    """Check a bundle that can be recreated without training."""
    if not bundles.exists(path):  # not written completely
        return []
    try:
        bundles.check(path, run_id, (name,))
    except UserError as error:
        return [Damage(str(error), partial(files.remove, path))]
    return []


def _shifts(path: Location) -> list[Damage]:
    """Check the shifts of a student, which can be recreated without training."""
    try:
        shifts.parse(path, files.read(path))
    except UserError as error:
        return [Damage(str(error), partial(files.remove, path))]
    return []


def _artifact(out: Location, run_id: str) -> list[Damage]:
    if not bundles.exists(out / "artifacts" / run_id):
        return []
    try:
        artifacts.check(out / "artifacts", run_id)
    except UserError as error:
        return [Damage(str(error), partial(ledger.set_aside, out, run_id))]
    path, line = (
        out / "records" / f"{run_id}.parquet",
        "is missing, though the training is committed",
    )
    if not files.exists(path):
        return [Damage(f"{path} {line}", partial(ledger.find, out, run_id))]  # publishes it
    kept = artifacts.predictions_digests(out / "artifacts", run_id)
    lost = [
        path
        for path in (predictions.file_of(out, s, run_id) for s in kept)
        if not files.exists(path)
    ]
    publish = partial(ledger.publish_predictions, out, run_id)
    return [Damage(f"{path} {line}", publish) for path in lost]


def _predictions(out: Location, split: Split, run_id: str) -> list[Damage]:
    """Check a file of predictions, which equals that of the artifact if there is one."""
    path, artifact = predictions.file_of(out, split, run_id), out / "artifacts" / run_id
    committed: dict[Split, str] = {}
    if bundles.exists(artifact):
        try:
            committed = artifacts.predictions_digests(artifact.parent, run_id)
        except UserError:
            return []  # reported already

    def repair() -> None:
        files.set_aside(path)
        if committed and bundles.exists(artifact):  # it may have been set aside
            ledger.publish_predictions(out, run_id)

    try:
        predictions.parse(path, files.read(path))
    except (OSError, UserError) as error:
        return [Damage(str(error), repair)]
    if committed.get(split) not in (None, files.digest(path)):
        line = f"{path} differs from the predictions that were committed with the artifact"
        return [Damage(line, repair)]
    return []


def _record(out: Location, path: Location) -> list[Damage]:
    """Check that a record can be read, and that it agrees with its artifact."""
    run_id = path.stem
    try:
        rows = records.read(path.parent, [run_id]).to_pylist()
    except UserError as error:
        return [Damage(str(error), partial(_republish, out, run_id))]
    if not rows or rows[0]["status"] != "completed":
        return []
    try:
        committed = artifacts.committed_record(out / "artifacts", run_id)
    except UserError:
        return []  # reported already
    if committed is None:
        line = f"{path} says completed, but there is no artifact of it"
        return [Damage(line, partial(ledger.set_aside, out, run_id))]
    if committed != rows[0] or not _as_written(path, committed, out / "artifacts" / run_id):
        line = f"{path} differs from the record that was committed with the artifact"
        return [Damage(line, partial(_republish, out, run_id))]
    return []


def _as_written(path: Location, row: Record, artifact: Location) -> bool:
    """Return whether a record file has exactly the committed or the published bytes."""
    (committed,) = bundles.read(artifact, path.stem, (artifacts.RECORD,)).values()
    return files.read(path) in (committed, records.serialize(row))


def _republish(out: Location, run_id: str) -> None:
    """Replace a record with the one that was committed with the artifact."""
    files.set_aside(out / "records" / f"{run_id}.parquet")
    ledger.find(out, run_id)  # publishes the record, if there is an artifact


def sweep_leftovers(out: Location) -> int:
    """Delete files of interrupted attempts that are over a day old; nothing reads them.

    Returns:
        The number of deleted files.
    """
    leftovers = []
    own = (table_or_live.FOLDER, initial_weights.FOLDER, given_logits.FOLDER)
    of_code = (code.FOLDER, code.PLUGINS)
    bundled = [out / name for name in ("artifacts", *own, *of_code)]
    saved = out / checkpoints.FOLDER
    bundled += [saved / run_id for run_id in _names(saved)]
    predicted = [out / predictions.FOLDER / split for split in SPLITS]
    named = [out / name for name in ("records", shifts.FOLDER, "splits")]
    for folder in (out, *named, *predicted, *bundled):
        hidden = [folder / name for name in files.names(folder) if files.is_leftover(name)]
        leftovers += [path for path in hidden if files.is_old(path)]
    for folder in bundled:
        for name in _names(folder):
            leftovers += bundles.leftovers(folder / name)
    for path in leftovers:
        files.remove(path)
    return len(leftovers)


def _names(folder: Location) -> list[str]:
    return [name for name in files.names(folder) if not name.startswith(".")]


def main(line: CommandLine, stop: Stop) -> int:
    """Run the command line; see ``sweeps.commands.entry.command``.

    Raises:
        UserError: The folder is not a results folder.
    """
    parser = argparse.ArgumentParser(
        prog="python -m sweeps.verify" if line.program == "verify" else line.program,
        description="Check every byte of a results folder.",
    )
    parser.add_argument("results", help="of a sweep: a folder, s3:// or gs://")
    parser.add_argument(
        "--repair", action="store_true", help="set what is damaged aside; the next run trains it"
    )
    chosen = parser.parse_args(line.arguments)
    out = files.location(chosen.results)
    try:
        json_text.parse(files.read(out / "dataset.json"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{out} is not a results folder: dataset.json is missing or damaged"
        ) from None
    found = 0
    for damage in list(examine(out)):  # nothing is repaired while other files are still checked
        found += 1
        print(damage.line + ("; repaired" if chosen.repair else ""))
        if chosen.repair:
            damage.repair()
    if chosen.repair and (swept := sweep_leftovers(out)):
        print(f"{swept} leftovers of attempts that were cut off are deleted")
    folder = out / "artifacts"
    whole = sum(bundles.exists(folder / name) for name in _names(folder))
    if not found:
        print(f"{whole} trainings are whole")
        return 0
    if chosen.repair:
        print(f"{found} repaired, {whole} trainings are whole; run the sweep again for the rest")
        return 0
    print(f"{found} damaged; --repair sets them aside, so that the next run trains them again")
    return 1
