"""Registry of the search strategies that ``--search`` offers.

A new strategy requires one entry here and the module that the entry names.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeps.search.strategy import Request, Strategy

__all__ = ["DEFAULT", "STRATEGIES", "Entry", "create"]

DEFAULT = "informed"
"""Strategy of a sweep with ``--budget`` but without ``--search``."""


@dataclass(frozen=True)
class Entry:
    """Entry of a strategy in the registry.

    Args:
        description: Students that it trains; completes "Of these, ...".
        factory: Function that makes a ``Strategy`` from a ``Request``, as ``module:function``. It
            is imported when a search begins, since a strategy may need packages that are slow to
            import.
        options: Fields of ``sweeps.cli.options.Economy`` that only apply to the strategies that
            list them.
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
        UserError: The strategy does not support the request.
    """
    strategy: Strategy = pkgutil.resolve_name(STRATEGIES[name].factory)(request)
    return strategy
