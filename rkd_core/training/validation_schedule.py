"""Schedule of the validations during a training, which do not affect the trained model."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ValidationSchedule"]

_MOST = 10  # maximum number of validations by default
_SHARE = 0.02  # maximum share of the training cost that they may take


@dataclass(frozen=True)
class ValidationSchedule:
    """Epochs that end with a validation, which the record keeps.

    Attributes:
        every: Epochs between validations; None for up to ten, evenly spaced, if their cost is low.
        shares: Shares of the training after which to validate in addition.
    """

    every: int | None = None
    shares: tuple[float, ...] = ()

    def epochs(self, total: int, images: int, validation: int) -> set[int]:
        """Return the numbers of epochs, before the last, after which to validate.

        Args:
            total: Epochs of the training.
            images: Training images per epoch.
            validation: Validation images; each costs about a third of a training image.
        """
        if self.every is not None:
            found = set(range(self.every, total, self.every))
        else:
            n = min(_MOST, int(_SHARE * 3 * total * images / max(validation, 1)))
            found = {total * k // (n + 1) for k in range(1, n + 1)}
        return (found | self.at(total)) - {0, total}

    def at(self, total: int) -> set[int]:
        """Return the numbers of epochs that correspond to ``shares``."""
        return {round(share * total) for share in self.shares} - {0, total}
