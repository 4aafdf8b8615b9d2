"""Checkpoints of interrupted trainings, which continue bit for bit.

``checkpoints/<run id>/step-<steps done>/state.safetensors``, a bundle: it appears complete or not
at all and is checked before it is used. It holds no random state, because every random choice is a
pure function of the spec, the epoch and the step. A damaged checkpoint counts as missing; the
checkpoints of a run are deleted when the run is committed.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.storage import bundles, files, tensors
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["FILE", "FOLDER", "Checkpoints"]

log = logging.getLogger(__name__)

FOLDER, FILE = "checkpoints", "state.safetensors"


class Checkpoints:
    """Checkpoints of one run.

    Args:
        out: Results folder.
        run_id: The run.
    """

    def __init__(self, out: Location, run_id: str) -> None:
        self._folder, self._run_id = out / FOLDER / run_id, run_id

    def newest(self) -> int:
        """Return the number of steps at the newest intact checkpoint; 0 if there is none."""
        for steps in sorted(self._saved(), reverse=True):
            try:
                bundles.check(self._path(steps), self._run_id, (FILE,))
            except UserError as error:
                log.warning("%s; it is deleted", error)  # to make room for a new one of this name
                files.remove(self._path(steps))
            else:
                return steps
        return 0

    def load(self, steps: int) -> dict[str, Tensor]:
        """Return the state saved after a number of steps, on the CPU.

        Raises:
            UserError: The checkpoint is missing or damaged.
        """
        return tensors.read(self._path(steps), self._run_id, FILE)

    def save(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Save a state and delete those of earlier steps; a full disk is logged, not raised."""
        try:
            tensors.write(self._path(steps), self._run_id, FILE, state)
        except OSError as error:
            log.warning("no checkpoint of %s after step %d: %s", self._run_id, steps, error)
            return
        for earlier in self._saved():
            if earlier < steps:
                files.remove(self._path(earlier))

    def delete(self) -> None:
        """Delete all checkpoints of the run."""
        files.remove(self._folder)

    def _path(self, steps: int) -> Location:
        return self._folder / f"step-{steps}"

    def _saved(self) -> list[int]:
        found = (re.fullmatch(r"step-([0-9]{1,18})", name) for name in files.names(self._folder))
        return [int(match[1]) for match in found if match]
