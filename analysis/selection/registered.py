"""Criteria that plug-ins register by name, with checks of what they return."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from analysis.runs.columns import FloatArray
from analysis.selection.criteria import Accuracies, Criterion
from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name

__all__ = ["RegisteredCriterion", "registered"]

T = TypeVar("T")

_METHODS = ("describe", "words", "shortfall", "margins", "objective", "fallback")


def registered(name: str, worst_k: int) -> RegisteredCriterion:
    """Return the criterion that a plug-in registers under a name.

    Args:
        name: The name.
        worst_k: Given to the class or function if its signature takes it.

    Raises:
        UserError: There is no such criterion, or it cannot be made or lacks a method.
    """
    target = plugins.criteria.get(name)
    if target is None:
        known = plugins.criteria.known()
        if not known:
            raise UserError(
                f"unknown --criterion {name!r}: there is no rule of this name; give the file that "
                "registers it with --plugin"
            )
        raise unknown_name("--criterion", name, known)
    if isinstance(target, type) or not hasattr(target, "objective"):
        taken = {"worst_k": worst_k} if "worst_k" in _parameters(target) else {}
        made: Any = plugins.call(lambda: target(**taken), f"--criterion {name}")
    else:
        made = target
    missing = [one for one in _METHODS if not callable(getattr(made, one, None))]
    if missing or not isinstance(getattr(made, "worst_k", 1), int):
        raise UserError(
            f"--criterion {name} is not a criterion: "
            + (f"it has no {missing[0]}()" if missing else "its worst_k must be an integer")
            + "; derive it from one of analysis.selection.criteria"
        )
    return RegisteredCriterion(name, made, worst_k)


def _parameters(target: Any) -> Any:
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):  # a class of an extension module
        return {}


class RegisteredCriterion:
    """A criterion of a plug-in; see ``Criterion``.

    Args:
        name: Registered name.
        made: The plug-in's criterion.
        worst_k: Number of classes in the worst-k accuracy, if the criterion does not state it.
    """

    def __init__(self, name: str, made: Criterion, worst_k: int) -> None:
        self._name, self._made = name, made
        self.worst_k = int(getattr(made, "worst_k", worst_k))

    def describe(self) -> dict[str, Any]:
        """Return the name and options as plain data, with the digest of the code."""
        described = self._called("describe", self._made.describe)
        try:
            plain = json.loads(json.dumps(described, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"--criterion {self._name}: describe() must be JSON: {error}"
            ) from error
        if not isinstance(plain, dict):
            raise UserError(f"--criterion {self._name}: describe() must return a dict")
        digest = plugins.criteria.digest(self._name)
        return {**plain, "name": self._name, "code_digest": digest}

    def words(self, accuracies: Accuracies, reference: int, index: int) -> tuple[str, str]:
        """Return the objective in words, and the constraint on one combination."""
        found = self._called("words", lambda: self._made.words(accuracies, reference, index))
        if not (isinstance(found, tuple) and [*map(type, found)] == [str, str]):
            raise UserError(f"--criterion {self._name}: words() must return two texts")
        return found

    def shortfall(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return how far each combination violates the constraint; 0 or less if it is feasible."""
        return self._numbers(
            "shortfall", lambda: self._made.shortfall(accuracies, reference), accuracies
        )

    def margins(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return how far below the reference each average may fall; NaN if unconstrained."""
        return self._numbers(
            "margins", lambda: self._made.margins(accuracies, reference), accuracies
        )

    def objective(self, accuracies: Accuracies) -> FloatArray:
        """Return the objective, ``(combinations,)``, or ``(combinations, keys)`` by priority."""
        return self._numbers("objective", lambda: self._made.objective(accuracies), accuracies, 2)

    def fallback(self, accuracies: Accuracies, reference: int) -> FloatArray:
        """Return the objective that applies if no combination is feasible, ``(combinations,)``."""
        return self._numbers(
            "fallback", lambda: self._made.fallback(accuracies, reference), accuracies
        )

    def _called(self, method: str, function: Callable[[], T]) -> T:
        return plugins.call(function, f"--criterion {self._name}: {method}()")

    def _numbers(
        self, method: str, function: Callable[[], Any], accuracies: Accuracies, axes: int = 1
    ) -> FloatArray:
        """Return the numbers that a method gives for each combination."""
        found = self._called(method, lambda: np.asarray(function(), dtype=np.float64))
        wanted = len(accuracies.means.average)
        if not 1 <= found.ndim <= axes or len(found) != wanted:
            raise UserError(
                f"--criterion {self._name}: {method}() must return a number for each of the "
                f"{wanted} combinations, not an array {found.shape}"
            )
        if method in ("objective", "fallback") and np.isnan(found).any():
            raise UserError(f"--criterion {self._name}: {method}() returns NaN")
        return found
