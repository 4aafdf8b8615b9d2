"""What teachers start from where they are not trained from scratch: weights in the results folder.

``initial_weights/<SHA-256 of the file they came from>/weights.safetensors``, a bundle. So every
machine that trains finds them, no pickle is read there, and what a spec names is what it gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rkd_core import artifacts, bundles, files
from rkd_core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from rkd_core.models import Pretrained
    from rkd_core.runs import Run

__all__ = ["FILE", "FOLDER", "begin", "keep", "load"]

FOLDER, FILE = "initial_weights", "weights.safetensors"


def keep(out: Path, weights: Pretrained) -> str:
    """Put weights into a results folder, unless they are there already.

    Returns:
        What a ``TrainingSpec`` calls them.

    Raises:
        OSError: They cannot be written.
    """
    from safetensors.torch import save

    path = out / FOLDER / weights.digest
    try:
        bundles.check(path, weights.digest, (FILE,))
    except UserError:  # none yet, or damaged
        files.remove(path)
        bundles.write(path, weights.digest, {FILE: save(weights.tensors)})
    return weights.digest


def load(out: Path, digest: str) -> dict[str, Tensor]:
    """Weights of a results folder, by the names of the network that they were read for.

    Raises:
        UserError: They are missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as deserialize

    path = out / FOLDER / digest
    try:
        weights: dict[str, Tensor] = deserialize(bundles.read(path, digest, (FILE,))[FILE])
    except SafetensorError as error:
        raise UserError(f"{path / FILE} is of another version: {error}") from error
    return weights


def begin(runs: Sequence[Run], out: Path | None) -> None:
    """Give new trainings the weights that their specs name, or those of the teacher that they
    are derived from.

    A classifier of another number of classes stays as it was drawn.

    Raises:
        UserError: The weights are not in ``out``, are damaged, or are not of these networks.
    """
    read: dict[Path, dict[str, Tensor]] = {}
    for run in runs:
        spec = run.spec
        if spec.initial_weights is None and spec.derived is None:
            continue
        if out is None:
            raise UserError("initial weights need `out`, the results folder that holds them")
        if spec.derived is not None:
            path = out / "artifacts" / spec.derived.source.run_id
            read[path] = read.get(path) or artifacts.load(path.parent, path.name).weights
        else:
            path = out / FOLDER / str(spec.initial_weights)
            read[path] = read.get(path) or load(out, path.name)
        _start(run, read[path], path)


def _start(run: Run, weights: Mapping[str, Tensor], path: Path) -> None:
    own = run.model.state_dict()
    anew = {
        name
        for name in ("classifier.weight", "classifier.bias")
        if name in weights and name in own and len(weights[name]) != len(own[name])
    }
    if anew and run.spec.recipe.epochs == 0:
        raise UserError(f"{path} has another number of classes: it needs epochs of training")
    kept = {name: own[name] if name in anew else value for name, value in weights.items()}
    try:
        run.model.load_state_dict(kept)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} is not of {run.spec.architecture}: {reason}") from error
