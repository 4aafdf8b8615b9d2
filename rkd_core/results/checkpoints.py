"""Checkpoints: all that a training needs to go on where it was, to the last bit.

``checkpoints/<run id>/step-<steps done>/state.safetensors``, a bundle: it appears complete or not
at all and is checked before it is used. There are no random states in it, since every random
choice is a pure function of the spec, the epoch and the step. A checkpoint that is damaged counts
as none; those of a run are deleted when it is committed.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from rkd_core.errors import UserError
from rkd_core.storage import bundles, files

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["FILE", "FOLDER", "Checkpoints"]

log = logging.getLogger(__name__)

FOLDER, FILE = "checkpoints", "state.safetensors"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        out: Results folder.
        run_id: Of the run.
    """

    def __init__(self, out: Path, run_id: str) -> None:
        self._folder, self._run_id = out / FOLDER / run_id, run_id

    def newest(self) -> int:
        """Steps done at the newest checkpoint that is whole; 0 if there is none."""
        for steps in sorted(self._saved(), reverse=True):
            try:
                bundles.check(self._path(steps), self._run_id, (FILE,))
            except UserError as error:
                log.warning("%s; it is deleted", error)  # or it would be in a new one's way
                files.remove(self._path(steps))
            else:
                return steps
        return 0

    def load(self, steps: int) -> dict[str, Tensor]:
        """The state saved after so many steps, on the CPU.

        Raises:
            UserError: It is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(steps)
        try:
            state: dict[str, Tensor] = load(bundles.read(path, self._run_id, (FILE,))[FILE])
        except SafetensorError as error:
            raise UserError(f"{path / FILE} is no checkpoint of this program: {error}") from error
        return state

    def save(self, steps: int, state: Mapping[str, Tensor]) -> None:
        """Keep a state, and none of earlier steps. A full disk is logged and stops nobody."""
        from safetensors.torch import save

        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        try:
            bundles.write(self._path(steps), self._run_id, {FILE: save(tensors)})
        except OSError as error:
            log.warning("no checkpoint of %s after step %d: %s", self._run_id, steps, error)
            return
        for earlier in self._saved():
            if earlier < steps:
                files.remove(self._path(earlier))

    def delete(self) -> None:
        """The run needs them no more."""
        files.remove(self._folder)

    def _path(self, steps: int) -> Path:
        return self._folder / f"step-{steps}"

    def _saved(self) -> list[int]:
        found = (re.fullmatch(r"step-([0-9]{1,18})", name) for name in files.names(self._folder))
        return [int(match[1]) for match in found if match]
