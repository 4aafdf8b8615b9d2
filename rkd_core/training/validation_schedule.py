"""When validation is looked at in the course of a training, which changes nothing of it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Looks"]

_MOST = 10  # looks that are had for nothing but to be seen
_SHARE = 0.02  # of the cost of a training that those may take


@dataclass(frozen=True)
class Looks:
    """Which epochs end with a look at validation, which the record keeps.

    Attributes:
        every: So many epochs apart; None: up to ten, evenly spread, where they cost little.
        shares: And after these shares of the training.
    """

    every: int | None = None
    shares: tuple[float, ...] = ()

    def epochs(self, total: int, images: int, validation: int) -> set[int]:
        """Numbers of epochs done, before the last, of a training of ``total``.

        Args:
            total: Epochs.
            images: Trained on in an epoch.
            validation: Images of a look; each costs about a third of a trained one.
        """
        if self.every is not None:
            found = set(range(self.every, total, self.every))
        else:
            n = min(_MOST, int(_SHARE * 3 * total * images / max(validation, 1)))
            found = {total * k // (n + 1) for k in range(1, n + 1)}
        return (found | self.at(total)) - {0, total}

    def at(self, total: int) -> set[int]:
        """Those of the ``shares``."""
        return {round(share * total) for share in self.shares} - {0, total}
