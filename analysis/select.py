"""Command that selects the combination to ship from the records of a sweep.

    python -m analysis.select results/cifar10

It prints the answer, and with ``--verbose`` all tables, too. It writes selection.json, pareto.png,
pareto.svg and report.html into the results folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from analysis.selection.rule_options import Rule, add_options, rule_of
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text, terminal

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from analysis.runs.loading import Runs
    from analysis.selection import Selection
    from analysis.selection.criteria import Criterion
    from analysis.selection.outcome import Outcome
    from analysis.selection.uncertainty import Estimate

__all__ = ["main", "prepare", "run", "select"]

_FILES = ("selection.json", "pareto.png", "pareto.svg", "report.html")
"""Names of the files in the results folder; without figures, only the first is written."""


def select(
    records: pa.Table | Path,
    criterion: Criterion | None = None,
    estimate: Estimate = "shrunk",
    metric: str | None = None,
    cost_matrix: Path | None = None,
) -> Selection:
    """Select among completed students; ``analysis.select(...)`` calls this function.

    Args:
        records: Students of one family in the columns of ``rkd_core.records.SCHEMA``, or a
            results folder.
        criterion: The rule; None for ``Constrained()``.
        estimate: Apply the rule to ``shrunk`` estimates, from predictions if there are any; to
            estimates from ``counts`` alone; or to the ``raw`` accuracies.
        metric: Figure to maximize instead of accuracy, as for ``--metric``; it needs predictions.
        cost_matrix: File of costs, as for ``--cost-matrix``.

    Raises:
        UserError: As in ``analysis.selection.select``, or there is nothing to select from, or the
            metric is unknown, lacks predictions or excludes the criterion.
    """
    from analysis.runs.combinations import combine
    from analysis.runs.loading import load
    from analysis.runs.outcomes import with_outcomes
    from analysis.selection.by_metric import ByMetric, with_scores
    from analysis.selection.outcome import class_names
    from analysis.selection.uncertainty import choose
    from rkd_core.errors import UserError

    if not isinstance(records, Path):
        if metric is not None or cost_matrix is not None:
            raise UserError("metric needs predictions: give the results folder, not its records")
        return choose(combine(records), criterion, estimate)
    runs = load(records)
    by = Rule(metric=metric, cost_matrix=cost_matrix)
    if by.by_metric:
        if criterion is not None:
            raise UserError("metric excludes criterion; give one of them")
        criterion = by.resolve(class_names(runs))
    if isinstance(criterion, ByMetric):
        return choose(with_scores(combine(runs.students), runs, criterion), criterion, estimate)
    candidates = combine(runs.candidates)
    if estimate == "shrunk":
        candidates, _ = with_outcomes(candidates, runs)
    return choose(candidates, criterion, estimate)


def run(
    results: Location,
    rule: Rule = Rule(),  # noqa: B008  (immutable)
    *,
    run_ids: Iterable[str] | None = None,
    family: str | None = None,
    figures: bool = True,
    tables: Location | None = None,
    target_regret: float | None = None,
    verbose: bool = False,
    images: bool = True,
    illustrate: Callable[[Sequence[int]], None] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Select, write ``selection.json`` and the figures into the folder, and print the answer.

    Args:
        results: The results folder of a sweep.
        rule: The selection rule.
        run_ids: The runs to compare; None for those of the folder's plan, or all without a plan.
        family: Compare all completed students of this family instead.
        figures: Whether to draw ``pareto.png`` and ``pareto.svg``, and to write ``report.html``.
        tables: Folder for every table as CSV, LaTeX and Markdown; None for none.
        target_regret: Propose further seeds that reduce the expected regret to this fraction.
        verbose: Whether to print all tables, too.
        images: Whether the report shows pictures of test images.
        illustrate: Function that stores pictures of these rows of the original test split, as
            ``rkd_core.records.thumbnails.write`` does; None to use those that are stored.
        console: Where to print; None for standard output.

    Returns:
        The content of ``selection.json``.

    Raises:
        UserError: There is nothing to select from, an option is out of range, or the folder
            cannot be written (the answer is printed anyway).
    """
    from analysis.views import answer_cache
    from rkd_core.errors import UserError
    from rkd_core.text.console import Console

    console = console or Console()
    run_ids = None if run_ids is None else sorted({*run_ids})
    asked = rule, run_ids, family, target_regret, images
    _find_plugins(results, rule)
    names = _FILES if figures else _FILES[:1]
    key, last = answer_cache.key_of(results, *asked), answer_cache.load(results)
    screen = answer_cache.screen_of(console, results, verbose)
    stands = last.key == key and last.stands(results, names)
    if stands and tables is None and screen in last.screens:
        console.out(last.screens[screen], end="", highlight=False)
        _say(console, _written(results, names, "Unchanged:", verbose))
        return json_text.parse_object(files.read(results / names[0]))

    from analysis.runs.given_groups import with_groups
    from analysis.runs.loading import load

    runs = with_groups(rule, rule.within_limits(load(results, run_ids, family)))
    if answer_cache.key_of(results, *asked) != key:  # new records were written meanwhile
        key, stands = "", False
    outcome = rule.assess(runs)
    content, advised = _settled(outcome, target_regret, results)
    content["missing_trainings"] = runs.missing
    lines, failure = [], None
    try:  # write files first, so that they exist even if printing fails
        if not stands:
            report = partial(_write_report, runs, outcome, results, images, illustrate)
            _write_answer(results, content, report if figures else None)
            _keep_plugins(results, rule)
            _keep_groups(results, rule, runs)
        lines.append(_written(results, names, "Unchanged:" if stands else "Wrote", verbose))
        if tables is not None:
            _write_tables(tables, runs, outcome)
            lines.append(f"Wrote tables in {tables}")
    except UserError as error:
        failure = error
    text = _text(outcome, runs, advised, console, verbose)
    if key and failure is None:
        answer = last if last.key == key else answer_cache.Answer(key)
        answer_cache.save(results, answer.wrote(results, names).printed(screen, text))
    console.out(text, end="", highlight=False)
    for line in lines:
        _say(console, line)
    if failure is not None:
        raise failure
    return content


def _find_plugins(results: Location, rule: Rule) -> None:
    """Search the results folder for the rule if no plug-in of this process registers it."""
    if rule.plugins():
        from rkd_core import plugins

        plugins.search(results)


def _keep_plugins(results: Location, rule: Rule) -> None:
    """Store the code of the rule in the results folder, where later commands find it."""
    from rkd_core import plugins
    from rkd_core.errors import UserError

    if used := rule.plugins():
        try:
            plugins.keep(results, used)
        except OSError as error:
            raise UserError(
                f"nothing could be written to {results}: {error.strerror or error}"
            ) from error


def _keep_groups(results: Location, rule: Rule, runs: Runs) -> None:
    """Store given groups of images in the results folder, where later commands find them."""
    from analysis.runs import image_groups
    from analysis.runs.given_groups import all_groups
    from rkd_core.errors import UserError

    groups = all_groups(rule, runs)
    if rule.image_groups is not None and groups is not None:
        try:
            image_groups.write(results, groups)
        except OSError as error:
            raise UserError(
                f"nothing could be written to {results}: {error.strerror or error}"
            ) from error


def prepare() -> None:
    """Load in advance the modules that every answer needs."""
    from analysis.report import page
    from analysis.selection import further_seeds  # noqa: F401
    from analysis.views import figure

    figure.prepare()
    page.prepare()


def _settled(
    outcome: Outcome, target_regret: float | None, results: Location
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of ``selection.json``, and lines that propose further seeds."""
    from analysis.selection.further_seeds import settle
    from analysis.selection.recommendation import recommendation
    from analysis.views.advice import advice, described
    from analysis.views.selection_json import document

    settling, compared = None, outcome.selection.combinations
    if target_regret is not None:
        settling = settle(outcome.selection, outcome.uncertainty, target_regret)
    lines = [] if settling is None else ["", *advice(settling, compared, results)]
    if lines and not recommendation(outcome).ship:
        lines = ["", "No further seeds are proposed: see above what to change first"]
    return document(outcome) | {"settling": described(settling, compared)}, lines


def _text(
    outcome: Outcome, runs: Runs, advised: Iterable[str], console: Console, verbose: bool
) -> str:
    """Return the answer as printed on a console."""
    from analysis.views.terminal import print_outcome

    with console.capture() as captured:
        print_outcome(outcome, console, runs.notes, verbose=verbose)
        for line in advised:
            _say(console, line)
    return captured.get()


def _written(results: Location, names: Sequence[str], state: str, verbose: bool) -> str:
    """Return the path of the report or, without one, of the first file; in full all names."""
    return f"{state} {', '.join(names)} in {results}" if verbose else f"{results / names[-1]}"


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _write_answer(
    results: Location, content: dict[str, Any], report: Callable[[], None] | None
) -> None:
    """Write ``selection.json``, and any figures and report."""
    from analysis.views.selection_json import write_json
    from rkd_core.errors import UserError

    try:
        write_json(results / _FILES[0], content)
        if report is not None:
            report()
    except OSError as error:
        raise UserError(
            f"nothing could be written to {results}: {error.strerror or error}"
        ) from error


def _write_report(
    runs: Runs,
    outcome: Outcome,
    results: Location,
    images: bool,
    illustrate: Callable[[Sequence[int]], None] | None,
) -> None:
    """Write the figures and the report, whose pictures of images are stored first."""
    from analysis.report import page
    from analysis.report.mistakes import mistakes
    from analysis.views import figure

    figure.save(outcome, results)
    if images and illustrate is not None:
        found = mistakes(outcome, results)
        if found is not None:
            illustrate(found.images())
    page.save(runs, outcome, results, images=images)


def _write_tables(folder: Location, runs: Runs, outcome: Outcome) -> None:
    """Write every table as CSV, LaTeX and Markdown."""
    from analysis.views.table_files import write_tables
    from analysis.views.tables import sheets
    from rkd_core.errors import UserError

    try:
        write_tables(folder, sheets(runs, outcome))
    except OSError as error:
        raise UserError(
            f"--tables {folder} cannot be written: {error.strerror or error}"
        ) from error


def main(arguments: Sequence[str] | None = None, program: str = "python -m analysis.select") -> int:
    """Run the command; return 2, with one line on standard error, if the input is invalid."""
    terminal.prepare(own_process=arguments is None)
    parser = argparse.ArgumentParser(
        prog=program,
        description="Choose the combination to ship from the records of a sweep.",
    )
    parser.add_argument("results", help="results of a sweep: a folder, s3:// or gs://")
    add_options(parser)
    parser.add_argument("--family", metavar="ID", help="compare all students of this family")
    parser.add_argument("--verbose", action="store_true", help="print all tables, too")
    parser.add_argument("--no-figures", action="store_true", help="write selection.json only")
    parser.add_argument(
        "--no-images", action="store_true", help="show no test images in the report"
    )
    parser.add_argument(
        "--tables", metavar="FOLDER", help="write every table as CSV, LaTeX and Markdown there"
    )
    parser.add_argument(
        "--target-regret",
        type=float,
        metavar="F",
        help="say which combinations to train with further seeds, and how many, to bring the "
        "expected regret to this fraction, such as 0.005",
    )
    options = parser.parse_args(arguments)

    from rkd_core.errors import UserError
    from rkd_core.storage.files import location

    try:
        run(
            location(options.results),
            rule_of(options),
            family=options.family,
            figures=not options.no_figures,
            tables=None if options.tables is None else location(options.tables),
            target_regret=options.target_regret,
            verbose=options.verbose,
            images=not options.no_images,
        )
    except (UserError, OSError) as error:
        print(f"error: {UserError(str(error))}", file=sys.stderr)
        return 2
    return 0


class _Callable(ModuleType):
    """A module that can be called like its function ``select``."""

    __call__ = staticmethod(select)


sys.modules[__name__].__class__ = _Callable

if __name__ == "__main__":
    sys.exit(main())
