"""Search strategies that plug-ins register by name, with checks of what they propose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from rkd_core import plugins
from rkd_core.errors import UserError
from sweeps.search.strategy import Cell, Point, Request

__all__ = ["RegisteredStrategy"]

T = TypeVar("T")


class RegisteredStrategy:
    """A strategy of a plug-in; see ``Strategy``. All of its methods but ``ask`` are optional.

    Args:
        name: Registered name.
        make: Class or function that takes a request.
        request: The request.

    Raises:
        UserError: The strategy cannot be made, or has no ``ask``.
    """

    def __init__(self, name: str, make: Callable[[Request], Any], request: Request) -> None:
        self._name, self._space = name, request.space
        self._asked: set[Point] = set()
        self._made = self._called("", lambda: make(request))
        if not callable(getattr(self._made, "ask", None)):
            raise UserError(f"--search {name} is not a search strategy: it has no ask()")

    @property
    def cells(self) -> Iterable[Cell]:
        """Combinations that it may have proposed: all of the grid."""
        return self._space.cells

    def ask(self) -> Point | None:
        """Return the next student; None if none is left or a result is needed first."""
        point = self._called("ask", self._made.ask)
        if point is None:
            return None
        if not (
            isinstance(point, Point)
            and point.cell in self._space.cells
            and point.seed in self._space.seeds
        ):
            raise UserError(
                f"--search {self._name}: ask() must return None or Point(cell, seed) with one of "
                f"request.space.cells and of request.space.seeds, not {point!r}"
            )
        if point in self._asked:
            raise UserError(f"--search {self._name}: ask() returns {point!r} for the second time")
        self._asked.add(point)
        return point

    def tell(self, point: Point, row: Mapping[str, Any] | None) -> None:
        """Receive the completed or pruned record of a student; None if it failed."""
        self._asked.add(point)
        self._optional("tell", point, row)

    def outlook(self) -> tuple[Point | None, float]:
        """Return the student that would be next and its expected gain; NaN if it is unknown."""
        found = self._optional("outlook")
        return (None, np.nan) if found is None else found

    def taught(self, alpha_t: float | None, row: Mapping[str, Any]) -> None:
        """Receive the record of a trained teacher."""
        self._optional("taught", alpha_t, row)

    def _optional(self, method: str, *arguments: Any) -> Any:
        function = getattr(self._made, method, None)
        return None if function is None else self._called(method, lambda: function(*arguments))

    def _called(self, method: str, function: Callable[[], T]) -> T:
        place = f"--search {self._name}" + (f": {method}()" if method else "")
        return plugins.call(function, place)
