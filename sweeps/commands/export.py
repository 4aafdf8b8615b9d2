"""The command ``export.py``: write a model as a folder that needs PyTorch, NumPy and Pillow."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from analysis.selection.recommendation import of_record
from rkd_core.errors import UserError, require
from rkd_core.records import Record, shifts
from rkd_core.results import artifacts
from rkd_core.storage import bundles, files, tensors
from rkd_core.storage.files import Location, local_path, location
from rkd_core.storage.local import hidden_name, publish_folder
from rkd_core.text import json_text
from sweeps.cli.options import OptionalName, OptionalPath
from sweeps.cli.parse import parse
from sweeps.commands.entry import CommandLine
from sweeps.commands.model_card import Choice, model_card
from sweeps.stop import Stop

if TYPE_CHECKING:
    from torch import nn

    from rkd_core.results.artifacts import Artifact

__all__ = ["FOLDER", "Options", "classifier", "main", "run"]

FOLDER = "student"
"""Name of the folder of the export in a results folder."""

_CARD, _LABELS, _PREPROCESSING = "README.md", "labels.json", "preprocessing.json"
_WEIGHTS, _PROGRAM, _CODE = "model.safetensors", "model.pt2", "preprocess.py"
_FILES = {_CARD, _LABELS, _PREPROCESSING, _WEIGHTS, _PROGRAM, _CODE}
_IMPORTED = "__pycache__"  # left by an import of preprocess.py

_DECODING_BEFORE = {
    "integers": (0, 65535),
    "floats": (0, 255),
    "upright": False,
    "over_white": False,
}
"""Decoding of images for models that do not state it."""


@dataclass(frozen=True)
class Options:
    """Export the selected student of a sweep to a folder that does not need this project.

    Writes model.pt2 (torch.export, includes the normalization), model.safetensors, labels.json,
    preprocess.py (decodes images as in training), preprocessing.json, and a model card.
    """

    EXAMPLES: ClassVar[tuple[str, ...]] = ("results/digits-lt", "results/digits-lt --to FOLDER")

    results: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """results of a sweep: a folder, s3:// or gs://"""
    to: OptionalPath = None
    """folder to write (default: RESULTS/student)"""
    run_id: OptionalName = None
    """run to export, a teacher or a student (default: the seed of the selected combination with the
    best worst-class accuracy on validation)"""


def main(line: CommandLine, stop: Stop) -> int:
    """Run the command line; see ``sweeps.commands.entry.command``."""
    folder = run(parse(line.arguments, line.program, Options), line.program)
    print(f"Wrote {UserError(str(folder))}")
    return 0


def run(options: Options, program: str = "export.py") -> Path:
    """Choose, check and export a model; the folder appears complete or not at all.

    An existing export is replaced if its files are unchanged.

    Args:
        options: The options.
        program: Name of the program, for a warning.

    Returns:
        The folder.

    Raises:
        UserError: There is no model to export, it is damaged, or the folder holds other files.
        OSError: The folder cannot be written.
    """
    results = location(options.results)
    if not files.is_folder(results):
        raise UserError(f"{results} does not exist; name the results folder of a sweep")
    parent = local_path(results)
    if options.to is not None:
        to = options.to.absolute()
    elif parent is not None:
        to = (parent / FOLDER).absolute()
    else:
        raise UserError("give a folder of this machine: --to FOLDER")
    standing = _standing(to)
    choice, row, shift = _choose(results, options.run_id)
    run_id = str(row["run_id"])
    artifact = artifacts.load(results / "artifacts", run_id)
    require(
        artifact.spec.given_logits is None,
        f"run {run_id} is a teacher that is known by its logits only, without a network",
    )
    _commit(to, run_id, _contents(artifact, row, choice, _teacher(results, row), shift), standing)
    warning = of_record(row)
    if warning:
        print(f"{program}: warning: do not ship this model: {UserError(warning)}", file=sys.stderr)
    return to


def classifier(results: Location, run_id: str | None = None) -> nn.Module:
    """Return the selected student, or the model of another run, as ``model.pt2`` holds it.

    Raises:
        UserError: There is no such run, or its artifact is damaged.
    """
    from rkd_core.models import program

    _, row, shift = _choose(results, run_id)
    artifact = artifacts.load(results / "artifacts", str(row["run_id"]))
    return program.classifier(artifact, shift)


def _choose(results: Location, run_id: str | None) -> tuple[Choice, Record, Sequence[float] | None]:
    """Return the chosen model, its record, and the shift of its logits, None for none.

    The record is the one that was committed with the weights, with the counts of the shifted model
    if the logits are shifted.
    """
    if run_id is not None:
        return Choice((run_id,)), _committed(results, run_id, "name a completed run"), None
    path = results / "selection.json"
    try:
        selection = json_text.parse_object(files.read(path))
        run_ids, strength = (selection["selected"].get(name) for name in ("run_ids", "shift"))
        if not run_ids or not all(isinstance(name, str) for name in run_ids):
            raise ValueError("run_ids")
        if not isinstance(strength, float | None):
            raise ValueError("shift")
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: select with python -m analysis.select, or name a run with --run-id"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged; select again with python -m analysis.select"
        ) from error
    hint = "select again with python -m analysis.select"
    rows = [_committed(results, name, hint) for name in run_ids]
    models: list[tuple[Record, Sequence[float] | None]] = [(row, None) for row in rows]
    if strength is not None:
        models = [shifts.shifted(results, row, strength) for row in rows]
    best, shift = max(models, key=lambda model: _on_validation(model[0]))  # ties: the smaller seed
    return Choice(tuple(run_ids), selection, strength), best, shift


def _on_validation(row: Record) -> tuple[float, float]:
    return row["val_worst_class_accuracy"], row["val_average_accuracy"]


def _committed(results: Location, run_id: str, hint: str) -> Record:
    row = artifacts.committed_record(results / "artifacts", run_id)
    if row is None:
        raise UserError(f"{results / 'artifacts'} has no run {run_id}; {hint}")
    return row


def _teacher(results: Location, row: Record) -> Record | None:
    """Return the record of the teacher, if it still exists."""
    teacher = row["teacher_id"]
    return artifacts.committed_record(results / "artifacts", teacher) if teacher else None


def _contents(
    artifact: Artifact,
    row: Record,
    choice: Choice,
    teacher: Record | None,
    shift: Sequence[float] | None,
) -> dict[str, bytes]:
    import torch

    from rkd_core.datasets import preprocess, preprocess_arrays
    from rkd_core.models.program import program

    model, weights = artifact.model, artifact.weights
    if shift is not None:
        weights = {**weights, "logit_shift": torch.tensor(shift, dtype=torch.float32)}
    preprocessing = _preprocessing(model)
    card = model_card(artifact.spec, row, preprocessing, choice, teacher, torch.__version__)
    return {
        _CARD: card.encode(),
        _LABELS: _json(model["class_names"]),
        _PREPROCESSING: _json(preprocessing),
        _WEIGHTS: tensors.serialize(weights, {"format": "pt", "run_id": str(row["run_id"])}),
        _PROGRAM: program(artifact, shift),
        _CODE: _source(preprocess_arrays if "input" in model else preprocess),
    }


def _source(module: ModuleType) -> bytes:
    """Return the code of a module of this project."""
    assert module.__file__ is not None
    return Path(module.__file__).read_bytes()


def _preprocessing(model: dict[str, Any]) -> dict[str, Any]:
    output = {"dtype": "float32", "shape": ["n", model["classes"]], "meaning": "logits"}
    if "input" in model:  # arrays
        return {
            "input": {"dtype": "float32", "shape": ["n", model["channels"], *model["image_size"]]},
            "normalization": {
                "in_program": True,
                "formula": "(values - mean) / std",
                **model["normalization"],
            },
            "output": output,
        }
    height, width = model["image_size"]
    resized = model.get("resized")
    steps = {
        "shorter_side": resized,
        "interpolation": "bilinear, antialiased",
        "centre_crop": [height, width],
    }
    return {
        "input": {
            "dtype": "uint8",
            "shape": ["n", height, width, model["channels"]],
            "colour": "grey" if model["channels"] == 1 else "RGB",
        },
        "decoding": model.get("decoding", _DECODING_BEFORE),
        "resize": None if resized is None else steps,
        "normalization": {
            "in_program": True,
            "formula": "(pixels / 255 - mean) / std",
            **model["normalization"],
        },
        "output": output,
    }


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def _standing(folder: Path) -> bool:
    """Return whether there is an export that may be replaced.

    Raises:
        UserError: The folder holds other files, or an export that was changed.
    """
    if not folder.exists() and not folder.is_symlink():
        return False
    if not folder.is_dir() or folder.is_symlink():
        raise UserError(f"--to {folder} is not a folder; give a new one")
    names = set(files.names(folder))
    if not names:
        return False
    strangers = sorted(names - _FILES - {bundles.MANIFEST, _IMPORTED})
    if strangers:
        raise UserError(f"--to {folder} holds other files ({strangers[0]}); give a new folder")
    try:
        manifest = json_text.parse_object(files.read(folder / bundles.MANIFEST))
        run_id = str(manifest["run_id"])
        written = _FILES.intersection(bundles.checksums(folder, run_id))
        bundles.check(folder, run_id, sorted(written | (_FILES - {_CODE})))  # older exports lack it
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"--to {folder} is not as it was written ({error}); move it away, or give a new folder"
        ) from error
    return True


def _commit(folder: Path, run_id: str, contents: dict[str, bytes], standing: bool) -> None:
    """Write the new folder in place of the existing export, if there is one."""
    new = hidden_name(folder)
    try:
        bundles.write(new, run_id, contents)
        publish_folder(new, folder, replace=standing)
    finally:
        shutil.rmtree(new, ignore_errors=True)
