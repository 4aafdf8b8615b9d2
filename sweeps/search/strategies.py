"""Registry of the search strategies that ``--search`` offers.

A new strategy of this project requires one entry here and the module that the entry names. Plug-ins
register others.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from sweeps.search.strategy import Request, Strategy

__all__ = ["DEFAULT", "GRID", "STRATEGIES", "Entry", "create", "describe", "options_of"]

GRID = "grid"
"""Name that stands for no search."""

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


def options_of(name: str) -> tuple[str, ...]:
    """Return the options of a strategy.

    Raises:
        UserError: There is no such strategy.
    """
    if name in STRATEGIES:
        return STRATEGIES[name].options
    if plugins.search_strategies.get(name) is None:
        known = (GRID, *STRATEGIES, *plugins.search_strategies.names())
        raise unknown_name("--search", name, known)
    return ()


def describe(name: str) -> str:
    """Return the students that a strategy trains; completes "Of these, ..."."""
    if name in STRATEGIES:
        return STRATEGIES[name].description
    return f"those that the strategy {name} proposes"


def create(name: str, request: Request) -> Strategy:
    """Return the strategy of this name.

    Raises:
        UserError: The strategy does not support the request, or that of a plug-in fails.
    """
    if name not in STRATEGIES:
        from sweeps.search.registered import RegisteredStrategy  # imports NumPy

        return RegisteredStrategy(name, plugins.search_strategies.get(name), request)
    strategy: Strategy = pkgutil.resolve_name(STRATEGIES[name].factory)(request)
    return strategy


def _check(name: str, target: object) -> None:
    if not callable(target):
        raise UserError(f"{type(target).__name__} is not a class or function that takes a Request")


plugins.search_strategies.built_in(lambda: (GRID, *STRATEGIES), _check)
