"""Figure of worst-class against average accuracy on validation and on test.

Matplotlib is imported only when a figure is drawn, since its import is slow.
"""

from __future__ import annotations

import io
import warnings
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray
from analysis.runs.combinations import Means
from analysis.selection.intervals import CONFIDENCE, Prospect
from analysis.selection.outcome import Outcome, combination_name, letters
from analysis.views.figure_labels import place_labels
from rkd_core.storage.files import Location, replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "prepare", "save"]

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e7e7",
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "svg.hashsalt": "robust-distillation",  # the same identifiers in every file
}
_GREY, _LINE = "#8f8f8f", "#1a1a1a"
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"
_SELECTED: dict[str, Any] = {"color": _BLUE, "marker": "*", "s": 330, "edgecolors": "white"}
_REFERENCE: dict[str, Any] = {"color": _ORANGE, "marker": "s", "s": 85, "edgecolors": "white"}
_RUNNER_UP: dict[str, Any] = {"color": "none", "marker": "D", "s": 90, "edgecolors": _GREEN}
_ALONE: dict[str, Any] = {"marker": "P", "color": _LINE}
"""Colors that remain distinct with any color vision (Okabe and Ito), with their own markers."""
_MARKERS = ("o", "^", "v", "s", "p", "<", ">", "h")
"""Markers of the networks of the students."""
_NOTE: dict[str, Any] = {"loc": "right", "fontsize": 9, "color": "#595959"}


def save(outcome: Outcome, folder: Location) -> list[Location]:
    """Write ``pareto.png`` (200 dpi) and ``pareto.svg``; the same outcome gives the same bytes.

    Returns:
        Paths of the two files.
    """
    import matplotlib as mpl

    paths = []
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure = draw(outcome)
        for suffix, nothing in (("png", "Software"), ("svg", "Date")):
            content = io.BytesIO()
            figure.savefig(content, format=suffix, dpi=200, metadata={nothing: None})
            paths.append(folder / f"pareto.{suffix}")
            replace_file(paths[-1], content.getvalue())
    return paths


def prepare() -> None:
    """Import matplotlib and find its fonts in advance."""
    from matplotlib.backends import backend_agg, backend_svg
    from matplotlib.figure import Figure

    for canvas in (backend_agg.FigureCanvasAgg, backend_svg.FigureCanvasSVG):
        figure = Figure(figsize=(1, 1))
        figure.text(0.5, 0.5, r"$\alpha_s$ a")
        canvas(figure).print_figure(io.BytesIO())


def draw(outcome: Outcome) -> Figure:
    """Draw validation and test panels, in which all but a few points are gray.

    Each panel has the frontier of its own accuracies. Selected combination, standard distillation
    and runner-up have colors and labels, and the selected one its intervals: on other images, as
    estimated, in the validation panel, and those of the test counts in the test panel. Students of
    other methods are crosses; the best of each method on validation has a letter.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03)
    figure = Figure(figsize=(10, 5.2), layout=layout)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    prospects, methods = outcome.prospects, outcome.methods
    measured = (
        (outcome.selection.means, methods.val, prospects.other_images),
        (outcome.test, methods.test, prospects.test_alone),
    )
    splits = list(zip(panels, ("validation", "test"), measured, strict=True))
    for axes, split, (means, others, prospect) in splits:
        _points(axes, outcome, means)
        _crosses(axes, others)
        if (alone := outcome.undistilled) is not None:
            m = alone.val if split == "validation" else alone.test
            x, y = _accuracies(m)[alone.best]
            axes.scatter(x, y, s=60, edgecolors="white", zorder=4, **_ALONE)
        _intervals(axes, prospect)
        axes.set_xlabel(f"average accuracy on {split} (%), better →")
        axes.set_ylabel(f"{outcome.worst_name} accuracy on {split} (%), better →")
        axes.set_title(split.capitalize(), loc="left", fontsize=11.5, color="#222222")
        axes.margins(0.12, 0.17)  # room for the labels
    _constraint(panels[0], outcome)
    panels[1].set_title("not used for the choice", **_NOTE)
    _legend(figure, outcome)
    figure.suptitle(_title(outcome), x=0.01, ha="left", fontsize=12, fontweight="bold")
    canvas.draw()  # fixes the layout before the labels are placed
    figure.set_layout_engine("none")
    for axes, _, (means, others, _) in splits:
        points = _accuracies(means)
        line = _along(points[means.frontier()])
        points = np.concatenate((points, _accuracies(others)))
        place_labels(axes, points, _labels(outcome), line, canvas.get_renderer())
    return figure


def _points(axes: Axes, outcome: Outcome, means: Means) -> None:
    x, y = _accuracies(means).T
    for marker, among in _networks(outcome).values():
        style: dict[str, Any] = {"color": _GREY, "alpha": 0.55, "linewidths": 0, "zorder": 2}
        axes.scatter(x[among], y[among], s=20, marker=marker, **style)
    frontier = means.frontier()
    axes.plot(x[frontier], y[frontier], color=_LINE, linewidth=1.6, zorder=3)
    axes.scatter(x[frontier], y[frontier], s=24, color=_LINE, zorder=3)
    for place, style in _marked(outcome).items():
        axes.scatter(x[place], y[place], linewidths=1.5, zorder=5, **style)


def _networks(outcome: Outcome) -> dict[str, tuple[str, NDArray[np.bool_]]]:
    """Return a marker and a mask of the combinations for each network, or one for all."""
    c, names = outcome.selection.combinations, outcome.setting.student_architectures
    if len(names) < 2:
        return {"other combinations": ("o", np.ones(len(c), dtype=np.bool_))}
    return {
        _as_it_is(name): (marker, c.of_network(name))
        for name, marker in zip(names, cycle(_MARKERS), strict=False)
    }


def _marked(outcome: Outcome) -> dict[int, dict[str, Any]]:
    """Return the style of each point that stands out; a hollow one is drawn last."""
    selection = outcome.selection
    marked = {selection.reference: _REFERENCE, selection.selected: _SELECTED}
    if selection.runner_up is not None:
        marked.setdefault(selection.runner_up, _RUNNER_UP)
    return marked


def _crosses(axes: Axes, means: Means) -> None:
    """Draw students of other methods, distinguished by letters."""
    x, y = _accuracies(means).T
    axes.scatter(x, y, s=40, marker="x", color=_GREY, linewidths=1.4, zorder=3)


def _intervals(axes: Axes, prospect: Prospect | None) -> None:
    """Draw the intervals of the selected combination as a cross; nothing without an estimate."""
    if prospect is None:
        return
    (x, left, right), (y, low, high) = (
        [100 * end for end in (one.value, one.low, one.high)]
        for one in (prospect.average, prospect.worst_k)
    )
    style: dict[str, Any] = {"color": _BLUE, "linewidth": 1.6, "zorder": 4}
    axes.plot([left, right], [y, y], marker="|", **style)
    axes.plot([x, x], [low, high], marker="_", **style)


def _constraint(axes: Axes, outcome: Outcome) -> None:
    """Shade the averages that violate the constraint."""
    if outcome.selection.least_average is None:
        return
    least = 100 * outcome.selection.least_average
    left, right = axes.get_xlim()
    left = min(left, least - 0.03 * (right - left))
    axes.axvspan(left, least, color="#000000", alpha=0.05, linewidth=0, zorder=0)
    axes.axvline(least, color="#666666", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_title(f"shaded: average below {least:.1f}, not allowed", **_NOTE)
    axes.set_xlim(left, right)


def _legend(figure: Figure, outcome: Outcome) -> None:
    from matplotlib.lines import Line2D

    estimated = " (left: other images, estimated)" if outcome.prospects.other_images else ""
    interval = f"{CONFIDENCE:.0%} intervals of the selected{estimated}"
    entries: list[tuple[str, dict[str, Any]]] = [
        *(
            (name, {"marker": marker, "color": _GREY, "linestyle": ""})
            for name, (marker, _) in _networks(outcome).items()
        ),
        ("frontier", {"marker": "o", "color": _LINE, "markersize": 4}),
        (interval, {"marker": "|", "color": _BLUE}),
    ]
    if outcome.undistilled is not None:
        entries.append(("best without a teacher", {"linestyle": "", **_ALONE}))
    if len(outcome.methods.combinations):
        named = list(letters(outcome).values())
        alone = [] if outcome.undistilled is None else ["without a teacher"]
        cross = {"marker": "x", "color": _GREY, "linestyle": ""}
        entries.append((" or ".join([*(["other methods"] if named else []), *alone]), cross))
        nothing = {"linestyle": ""}
        entries += [(f"{a}  {_as_it_is(name)}", nothing) for a, name in named]
    figure.legend(
        handles=[Line2D([], [], label=label, **style) for label, style in entries],
        loc="outside lower left",
        ncols=min(len(entries), 4),
        fontsize=9.5,
        handletextpad=0.5,
        columnspacing=1.5,
    )


def _as_it_is(name: str) -> str:
    """Escape a name, so that it is neither mathematics nor invalid XML."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")


def _title(outcome: Outcome) -> str:
    setting, c = outcome.setting, outcome.selection.combinations
    least, most = int(c.seeds.min()), int(c.seeds.max())
    seeds = str(most) if least == most else f"{least} to {most}"
    parts = [
        _as_it_is(f"{setting.dataset}, {setting.architectures}"),
        c.count,
        f"{seeds} seed{'' if most == 1 else 's'}",
        f"{len(setting.class_names)} classes",
    ]
    return "   ·   ".join(parts)


def _labels(outcome: Outcome) -> dict[int, str]:
    """Return the labels of marked points by index, other methods last."""
    selection = outcome.selection
    beside = len(selection.combinations)
    labels = {selection.reference: "standard distillation", selection.selected: "selected"}
    if selection.selected == selection.reference:
        labels = {selection.selected: "selected: standard distillation"}
    if selection.runner_up is not None:
        labels.setdefault(selection.runner_up, "runner-up")
    named = {place: f"{label}\n{_settings(outcome, place)}" for place, label in labels.items()}
    return named | {beside + place: letter for place, (letter, _) in letters(outcome).items()}


def _settings(outcome: Outcome, index: int) -> str:
    """Return a combination's settings, of standard distillation the temperature only."""
    c, selection = outcome.selection.combinations, outcome.selection
    if index == selection.reference:
        return _as_it_is(f"T = {c.temperature[index]:g}{c.aside(index)}")
    return _as_it_is(combination_name(c, index)).replace("α_t", "αₜ").replace("α_s", "αₛ")


def _accuracies(means: Means) -> FloatArray:
    """Return points in percent, shape ``(combinations, 2)``."""
    return 100 * np.column_stack((means.average, means.worst_k))


def _along(corners: FloatArray) -> FloatArray:
    """Return closely spaced points along a line, shape ``(points, 2)``."""
    steps = np.arange(30 * (len(corners) - 1) + 1) / 30
    at = np.arange(len(corners))
    return np.column_stack([np.interp(steps, at, corners[:, axis]) for axis in (0, 1)])
