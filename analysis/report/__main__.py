"""Command that writes ``report.html`` into a results folder.

python -m analysis.report results/cifar10
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from analysis.selection.rule_options import add_options, rule_of
from rkd_core.text import terminal

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None, program: str = "python -m analysis.report") -> int:
    """Run the command; return 2, with one line on standard error, if the input is invalid."""
    terminal.prepare(own_process=arguments is None)
    parser = argparse.ArgumentParser(
        prog=program,
        description="Write report.html, one file that opens offline, into a results folder.",
    )
    parser.add_argument("results", help="results of a sweep: a folder, s3:// or gs://")
    add_options(parser)
    parser.add_argument("--family", metavar="ID", help="compare all students of this family")
    parser.add_argument("--no-images", action="store_true", help="show no test images")
    options = parser.parse_args(arguments)

    from analysis.report.page import save
    from analysis.runs.given_groups import with_groups
    from analysis.runs.loading import load
    from rkd_core.errors import UserError
    from rkd_core.storage.files import location

    try:
        results = location(options.results)
        rule = rule_of(options)
        runs = rule.within_limits(load(results, family=options.family))
        runs = with_groups(rule, runs)
        outcome = rule.assess(runs)
        print(f"Wrote {save(runs, outcome, results, images=not options.no_images)}")
    except (UserError, OSError) as error:
        print(f"error: {UserError(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
