"""Options for fewer trainings, checked: they exclude much of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from rkd_core.errors import require
from sweeps import methods
from sweeps.options import Economy, Options
from sweeps.repeats import repeats
from sweeps.search.budget import Budget

if TYPE_CHECKING:
    from sweeps.settings import Settings

__all__ = ["check_economy", "check_temperature", "search_of", "tuning"]

_TEMPERATURES = (0.01, 1000.0)  # beyond, a softmax is one-hot or uniform in float32


def search_of(economy: Economy) -> Literal["informed", "optuna"] | None:
    """Which search was asked for; None for the whole grid."""
    if economy.search != "grid":
        return economy.search
    return None if economy.budget is None else "informed"


def check_economy(options: Options) -> None:
    """Refuse what does not go together.

    Raises:
        UserError: One line that names the option and what would be right.
    """
    _check_repeats(options)
    _check_teachers(options)
    _check_search(options)


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


def check_temperature(flag: str, temperature: float) -> None:
    """Refuse a temperature that is none."""
    low, high = _TEMPERATURES
    require(
        low <= temperature <= high, f"{flag} must be from {low} to {high:g}, not {temperature:g}"
    )


def _check_repeats(options: Options) -> None:
    for repeat in repeats(options.grid.repeat):
        check_temperature("--repeat: temperatures", repeat.temperature)
        require(
            repeat.alpha_t is None or options.training.teacher_epochs != 0,
            "--repeat: with --teacher-epochs 0 there is but the standard teacher",
        )
        last = max(options.grid.seeds) + repeat.seeds
        require(last < 2**31, f"--repeat: seed {last} would exceed 2147483647")


def _check_teachers(options: Options) -> None:
    kind, training = options.economy.teachers, options.training
    if kind == "trained":
        return
    require(
        training.averaged_iterates is None,
        f"--teachers {kind} starts from one network, not from --averaged-iterates",
    )
    require(
        training.teacher_epochs != 0,
        f"--teachers {kind}: with --teacher-epochs 0 there is but the standard teacher",
    )


def _check_search(options: Options) -> None:
    economy, grid = options.economy, options.grid
    if economy.budget is not None:
        Budget.parse(economy.budget)
    search = search_of(economy)
    if search != "optuna":
        for flag, given in (
            ("--sampler", economy.sampler != "tpe"),
            ("--objectives", economy.objectives != "constrained"),
            ("--continuous", economy.continuous),
            ("--tune", economy.tune),
        ):
            require(not given, f"{flag} goes with --search optuna")
    if search is None:
        return
    require(
        methods.chosen(grid.methods) == (methods.DEFAULT,),
        f"--search {search} is over the grid: leave --methods out",
    )
    require(not grid.repeat, f"--search {search} chooses seeds itself: leave --repeat out")
    require(
        options.training.teacher_epochs != 0,
        f"--search {search}: with --teacher-epochs 0 there is but one teacher, train its students",
    )
