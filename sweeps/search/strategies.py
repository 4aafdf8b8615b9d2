"""Registry of search strategies: what ``--search`` offers, and how each is made.

Adding a strategy is one entry here and the module that its entry names.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.search.strategy import Request, Strategy

__all__ = ["DEFAULT", "STRATEGIES", "Entry", "create"]

DEFAULT = "informed"
"""Strategy of a sweep that has a budget and names none."""


@dataclass(frozen=True)
class Entry:
    """A strategy as the command line offers it.

    Args:
        description: Which students it trains; completes "Of these, ...".
        factory: ``module:function``, from a ``Request`` to a ``Strategy``. Imported when a search
            begins, since a strategy may need packages that take long to import.
        options: Fields of ``sweeps.cli.options.Economy`` that only strategies which name them use.
    """

    description: str
    factory: str
    options: tuple[str, ...] = ()


STRATEGIES: dict[str, Entry] = {
    "informed": Entry(
        "those expected to add most for their cost, first", "sweeps.search.informed:create"
    ),
    "optuna": Entry(
        "what Optuna proposes",
        "sweeps.search.optuna_strategy:create",
        options=("sampler", "objectives", "continuous", "tune"),
    ),
}


def create(name: str, request: Request) -> Strategy:
    """Return the strategy of this name.

    Raises:
        UserError: It cannot do what is requested.
    """
    strategy: Strategy = pkgutil.resolve_name(STRATEGIES[name].factory)(request)
    return strategy
