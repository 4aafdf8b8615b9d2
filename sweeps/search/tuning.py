"""Recipe fields that a search tunes."""

from __future__ import annotations

from rkd_core.errors import require
from sweeps.cli.options import Economy
from sweeps.planning.settings import Settings

__all__ = ["tuning"]


def tuning(economy: Economy, settings: Settings) -> dict[str, float]:
    """Return the fields to tune, by the names of ``specs.Tuned``, with the values of the sweep.

    Raises:
        UserError: A value is 0, so factors of it cannot be tried.
    """
    recipe = settings.recipe.model_dump() | {"multiplier_step_size": settings.multipliers.step_size}
    tuned = {flag.replace("-", "_"): flag for flag in economy.tune}
    for name, flag in tuned.items():
        require(
            recipe[name] > 0, f"--tune {flag}: the recipe's is 0, give a --{flag} to begin from"
        )
    return {name: recipe[name] for name in tuned}
