"""Loading of the initial weights of trainings that do not start from random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rkd_core.errors import UserError
from rkd_core.results import artifacts, initial_weights
from rkd_core.storage.files import Location
from rkd_core.training.run import Run

__all__ = ["begin"]


def begin(runs: Sequence[Run], out: Location | None) -> None:
    """Load the initial weights of new trainings whose specs specify them.

    A spec names a file of weights, or the teacher from which it is derived. If the number of
    classes differs, the classifier keeps its random weights.

    Raises:
        UserError: The weights are not in ``out``, are damaged, or do not fit the network.
    """
    read: dict[Location, dict[str, Tensor]] = {}
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
            path = out / initial_weights.FOLDER / str(spec.initial_weights)
            read[path] = read.get(path) or initial_weights.load(out, path.name)
        _load(run, read[path], path)


def _load(run: Run, weights: Mapping[str, Tensor], path: Location) -> None:
    own = run.model.state_dict()
    redrawn = {
        name
        for name in (f"{run.model.classifier_name}.{part}" for part in ("weight", "bias"))
        if name in weights and name in own and len(weights[name]) != len(own[name])
    }
    if redrawn and run.spec.recipe.epochs == 0:
        raise UserError(f"{path} has another number of classes: it needs epochs of training")
    kept = {name: own[name] if name in redrawn else value for name, value in weights.items()}
    try:
        run.model.load_state_dict(kept)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"{path} is not of {run.spec.architecture}: {reason}") from error
