"""Choose the combination to ship from the records of a sweep.

    python -m analysis.select results/cifar10

Prints the table, and writes selection.json, pareto.png and pareto.svg into the results folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["main", "run"]


def run(
    results: Path,
    *,
    worst_k: int = 1,
    margin: float | None = None,
    run_ids: Iterable[str] | None = None,
    family: str | None = None,
    figures: bool = True,
    console: Console | None = None,
) -> dict[str, Any]:
    """Select, print the table, and leave ``selection.json`` and the figures in the folder.

    Args:
        results: The results folder of a sweep.
        worst_k: Number of classes in the worst-k accuracy.
        margin: Average accuracy that may be given up against standard distillation, a fraction;
            None for the standard error of the difference.
        run_ids: The runs to compare; None for those of the folder's plan, or all without a plan.
        family: Compare all completed students of this family instead.
        figures: Whether to draw ``pareto.png`` and ``pareto.svg``.
        console: Where to print; None for standard output.

    Returns:
        The content of ``selection.json``.

    Raises:
        UserError: There is nothing to select from, an option is out of range, or the folder
            cannot be written (the table is printed all the same).
    """
    from rich.console import Console

    from analysis.export import document, write_json
    from analysis.loading import load
    from analysis.outcome import assess
    from analysis.selection import WorstClassWithinMargin
    from analysis.tables import print_outcome
    from rkd_core.errors import UserError

    criterion = WorstClassWithinMargin(worst_k, margin)
    runs = load(results, run_ids, family)
    outcome = assess(runs, criterion)
    content = document(outcome)
    console = console or Console()
    print_outcome(outcome, console, runs.notes)
    written = [results / "selection.json"]
    try:
        write_json(written[0], content)
        if figures:
            from analysis.figures import save

            written += save(outcome, results)
    except OSError as error:
        raise UserError(f"nothing could be written to {results}: {error.strerror}") from error
    names = ", ".join(path.name for path in written)
    console.print(f"Wrote {names} in {results}", highlight=False, markup=False, soft_wrap=True)
    return content


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 2, with one line on standard error, if the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.select",
        description="Choose the combination to ship from the records of a sweep.",
    )
    parser.add_argument("results", type=Path, help="results folder of a sweep")
    parser.add_argument(
        "--worst-k", type=int, default=1, metavar="K", help="classes in the worst-k accuracy (1)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="M",
        help="average accuracy that may be given up against standard distillation, a fraction "
        "such as 0.005 (default: the standard error of the difference)",
    )
    parser.add_argument("--family", metavar="ID", help="compare all students of this family")
    parser.add_argument("--no-figures", action="store_true", help="write selection.json only")
    options = parser.parse_args(arguments)

    from rkd_core.errors import UserError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters
    try:
        run(
            options.results,
            worst_k=options.worst_k,
            margin=options.margin,
            family=options.family,
            figures=not options.no_figures,
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
