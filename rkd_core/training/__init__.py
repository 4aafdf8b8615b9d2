"""Training and measurement of the models that specs describe.

Importing this package does not import torch; accessing ``train`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rkd_core.training.controls import Progress, TrainingControls

if TYPE_CHECKING:
    from rkd_core.training.loop import train

__all__ = ["Progress", "TrainingControls", "train"]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rkd_core.training.loop import train

    return train
