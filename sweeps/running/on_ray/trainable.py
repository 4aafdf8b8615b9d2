"""Function that runs one trial in a Ray actor.

A reused actor keeps no state from one trial to the next: every random choice of a training is
seeded by its spec, and ``Execution.prepared`` sets the global state of the process.

The driver imports this module, too, so the imports of a trial are inside the function.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rkd_core.specs import TrainingSpec
from rkd_core.storage.files import Location
from rkd_core.training import Progress, TrainingControls

if TYPE_CHECKING:
    from rkd_core.datasets import Dataset
    from rkd_core.device.execution import Execution

__all__ = ["train_trial"]

_REPORT_SECONDS = 0.5  # a report costs the driver about 2 ms


def train_trial(
    config: dict[str, Any],
    *,
    dataset: Dataset,
    out: Location,
    execution: Execution,
    controls: TrainingControls = TrainingControls(),
    token: str | None = None,
    hang_timeout: float = 0,
) -> None:
    """Train ``config["specs"]`` side by side; report figures of epochs and the outcome of each.

    Figures of several trainings are reported under their run ids, so that each has its own curve
    in TensorBoard. With the ``token`` of a lease, they save and stop when the lease ends. A process
    that completes no batch for ``hang_timeout`` seconds ends itself, see ``sweeps.running.hangs``.
    """
    from ray import tune

    from rkd_core import plugins
    from sweeps.folder.lease import taken_away
    from sweeps.running.hangs import ending_the_process, watched
    from sweeps.running.trial import carry_out, spoiled

    plugins.search(out)
    alone = len(config["specs"]) == 1
    began = time.monotonic()
    reported: defaultdict[str, float] = defaultdict(lambda: began)

    def report(progress: Progress) -> None:
        run_id, now = progress.run_id, time.monotonic()
        if now - reported[run_id] >= _REPORT_SECONDS or progress.val_average_accuracy is not None:
            reported[run_id] = now
            figures = {k: v for k, v in asdict(progress).items() if v is not None}
            named = figures if alone else {run_id: figures}
            # `timesteps_total` is the x-axis of TensorBoard.
            tune.report(named | {"run_id": run_id, "timesteps_total": progress.epoch})

    for outcome in carry_out(
        [TrainingSpec.model_validate_json(text) for text in config["specs"]],
        [TrainingSpec.model_validate_json(text) for text in config["students"]],
        dataset=dataset,
        out=out,
        execution=execution,
        controls=replace(
            controls,
            report=report,
            until=config.get("until"),
            stop=None if token is None else taken_away(out, token),
        ),
        watching=lambda run_ids: watched(hang_timeout, ending_the_process(out, run_ids)),
    ):
        tune.report(outcome | {"timesteps_total": outcome.get("epochs", 0)})
    if spoiled():  # all outcomes are reported; Ray starts a new process for the next trial
        raise RuntimeError("a recording has failed, so this process ends")
