"""Rendering of the report into one HTML file.

Plotly's script and the data of 10,000 records take 4.8 MB each, so the page holds both compressed,
and the browser inflates them (``DecompressionStream``, in all browsers since 2023). Text and tables
need no script.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.report.buckets import buckets, gains, models, regularization
from analysis.report.grids import group_rows, nine
from analysis.report.headline import answer
from analysis.report.history import history
from analysis.report.mistakes import mistakes
from analysis.report.pareto import pareto
from analysis.report.per_class import per_class
from analysis.report.sizes import size_figure, sizes
from analysis.report.slider import asked, choices, slider
from analysis.report.teachers import teaching
from analysis.report.trainings import trainings
from analysis.runs.loading import Runs
from analysis.selection.intervals import CONFIDENCE
from analysis.selection.outcome import Outcome
from analysis.views.by_metric import rows
from rkd_core.metrics.class_groups import DEFINITION
from rkd_core.storage import files
from rkd_core.storage.files import Location

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["prepare", "render", "save", "waiting"]

NAME = "report.html"


def prepare() -> None:
    """Read and compress the common parts of all pages in advance."""
    _template("page.html")
    _plotly()


def save(runs: Runs, outcome: Outcome, results: Location, *, images: bool = True) -> Location:
    """Write ``report.html`` into the results folder; the same files there give the same bytes."""
    path = results / NAME
    files.replace_file(path, render(runs, outcome, results, images=images).encode())
    return path


def render(
    runs: Runs, outcome: Outcome, results: Location, version: str = "", *, images: bool = True
) -> str:
    """Return the page as HTML.

    Args:
        runs: Runs that the report describes.
        outcome: Their selection.
        results: Results folder that may contain the plan.
        version: Version of a served page, which polls the server for a newer one; empty for a
            file.
        images: Whether to show the pictures of test images that the sweep has stored.
    """
    found = choices(outcome.selection)
    positions = slider(outcome.selection, found)
    compared, past = models(outcome, runs), history(runs, results)
    payload: dict[str, Any] = {
        "pareto": pareto(outcome),
        "choices": [[choice.margin, choice.index] for choice in found],
        "asked": asked(outcome.selection),
        "step": positions.step,
        "classes": per_class(outcome, [choice.index for choice in found]),
        "buckets": buckets(compared),
        "gains": gains(compared),
        "regularization": regularization(compared, outcome.setting.train_counts),
        "trainings": trainings(outcome, runs),
        "sizes": size_figure(outcome),
    }
    mistaken = mistakes(outcome, results)
    if mistaken is not None and images:
        mistaken = mistaken.with_pictures(results)
    packed = _packed(json.dumps(payload, allow_nan=False, separators=(",", ":")))
    said = answer(outcome)
    return _template("page.html").render(
        answer=said,
        chosen="selected" if said.why else "to ship",
        confidence=f"{100 * CONFIDENCE:.0f}",
        slider=positions,
        bounded=payload["asked"] is not None,
        estimated=payload["pareto"]["estimated"],
        setting=outcome.setting,
        worst=outcome.worst_name,
        methods=payload["pareto"]["methods"],
        sizes=sizes(outcome),
        size_figure=payload["sizes"],
        nine=nine(outcome),
        groups=group_rows(outcome),
        definition=DEFINITION,
        measured=outcome.measured,
        by_metric=[] if outcome.measured is None else [*rows(outcome.measured)],
        by_pair=[] if outcome.by_class_and_group is None else [*rows(outcome.by_class_and_group)],
        teaching=teaching(outcome, runs),
        buckets=payload["buckets"],
        gains=payload["gains"],
        regularization=payload["regularization"],
        mistakes=mistaken,
        history=past,
        notes=runs.notes,
        version=version,
        data=packed,
        plotly=_plotly(),
        nonce=hashlib.sha256(packed.encode()).hexdigest()[:32],
        css=_text("page.css"),
        js=_text("page.js"),
    )


def waiting(reason: str) -> str:
    """Return the page to serve until there is a report; it reloads itself."""
    return _template("waiting.html").render(reason=reason, css=_text("page.css"))


def _template(name: str) -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return _packed(get_plotlyjs())


def _packed(text: str) -> str:
    """Return a text, compressed and base64-encoded; the same text gives the same result."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
