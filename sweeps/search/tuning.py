"""Recipe fields that a search tunes."""

from __future__ import annotations

from rkd_core.errors import require
from sweeps.cli.options import Economy
from sweeps.planning.settings import Settings

__all__ = ["tuning"]


def tuning(economy: Economy, settings: Settings) -> dict[str, float]:
    """What of students' recipes is tuned, by the names of ``specs.Tuned``, and the sweep's values.

    Raises:
        UserError: One of them is 0, around which nothing can be looked for.
    """
    recipe = settings.recipe.model_dump() | {"multiplier_step_size": settings.multipliers.step_size}
    tuned = {flag.replace("-", "_"): flag for flag in economy.tune}
    for name, flag in tuned.items():
        require(
            recipe[name] > 0, f"--tune {flag}: the recipe's is 0, give a --{flag} to begin from"
        )
    return {name: recipe[name] for name in tuned}
