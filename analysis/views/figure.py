"""Figure of worst-class against average accuracy, modeled on Figure 1 of Wang et al. 2023.

Matplotlib is imported only when a figure is drawn, since its import is slow.
"""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.runs.columns import FloatArray, effective_alpha, objective_names
from analysis.runs.combinations import Combinations, Means
from analysis.selection.outcome import Outcome, letters, objective_name
from analysis.views.figure_labels import place_labels
from rkd_core.objectives import OBJECTIVES
from rkd_core.storage.files import Location, replace_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
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
_STANDARD_COLOR = "#d1495b"
"""Color of the standard student, which has no alpha_s; this red is not in the color map."""
_OTHER_COLOR = "#3b6fb6"
"""Color of the crosses of other methods."""
_MARKERS = "osD^v><phPX*"
_LINE = "#1a1a1a"
_NOTE: dict[str, Any] = {"loc": "right", "fontsize": 9, "color": "#666666"}
_AREAS = (32.0, 90.0)
"""Marker areas, in square points, of the lowest and the highest temperature."""


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
    """Draw validation and test panels: color is alpha_s, marker the teacher, size the temperature.

    Each panel has the frontier of its own accuracies. The validation panel shows the constraint
    of the selected combination; the test panel shows where that combination lies. Students of
    other methods are crosses; the best of each method on validation has a letter.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03)
    figure = Figure(figsize=(13, 5.9), layout=layout)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    selection = outcome.selection
    methods = outcome.methods
    measured = (selection.means, methods.val), (outcome.test, methods.test)
    splits = list(zip(panels, ("validation", "test"), measured, strict=True))
    for axes, split, (means, others) in splits:
        _points(axes, outcome, means)
        _crosses(axes, others)
        axes.set_xlabel(f"average accuracy on {split} (%)")
        axes.set_ylabel(f"{outcome.worst_name} accuracy on {split} (%)")
        axes.set_title(split.capitalize(), loc="left", fontsize=11.5, color="#222222")
        axes.margins(0.12, 0.17)  # room for the labels
    _constraint(panels[0], outcome)
    panels[1].set_title("for the record: nothing is chosen here", **_NOTE)
    _legends(figure, list(panels), outcome)
    figure.suptitle(_title(outcome), x=0.01, ha="left", fontsize=12.5, fontweight="bold")
    canvas.draw()  # fixes the layout before the labels are placed
    figure.set_layout_engine("none")
    for axes, _, (means, others) in splits:
        points = _accuracies(means)
        line = _along(points[means.frontier()])
        points = np.concatenate((points, _accuracies(others)))
        place_labels(axes, points, _labels(outcome), line, canvas.get_renderer())
    return figure


def _points(axes: Axes, outcome: Outcome, means: Means) -> None:
    selection = outcome.selection
    c = selection.combinations
    x, y = _accuracies(means).T
    several = c.seeds > 1
    if several.any():
        axes.errorbar(
            x[several],
            y[several],
            xerr=100 * means.average_se[several],
            yerr=100 * means.worst_k_se[several],
            fmt="none",
            ecolor="#9a9a9a",
            elinewidth=0.7,
            alpha=0.55,
            zorder=2,
        )
    frontier = means.frontier()
    axes.plot(x[frontier], y[frontier], color=_LINE, linewidth=1.4, zorder=3)
    edges = np.full(len(c), "white", dtype=object)
    edges[frontier] = _LINE
    areas = _areas(c.temperature)
    alpha_s, (teachers, which) = _student_alpha(c), _teachers(c)
    colors = np.array([_color(name) for name in objective_names()])[c.student_objective]
    colors[np.isfinite(alpha_s)] = ""
    for place in range(len(teachers)):
        for color in ("", _STANDARD_COLOR, _OTHER_COLOR):
            rows = (which == place) & (colors == color)
            axes.scatter(
                x[rows],
                y[rows],
                s=areas[rows],
                marker=_MARKERS[place % len(_MARKERS)],
                linewidths=0.8,
                edgecolors=list(edges[rows]),
                zorder=4,
                **(
                    {"color": color}
                    if color
                    else {"c": alpha_s[rows], "cmap": _colors(), "vmin": 0, "vmax": 1}
                ),
            )
    for index, color in ((selection.reference, _STANDARD_COLOR), (selection.selected, _LINE)):
        axes.scatter(
            x[index], y[index], s=230, facecolors="none", edgecolors=color, linewidths=1.8, zorder=5
        )


def _crosses(axes: Axes, means: Means) -> None:
    """Draw students of other methods, distinguished by letters, without error bars."""
    x, y = _accuracies(means).T
    axes.scatter(x, y, s=46, marker="x", color=_OTHER_COLOR, linewidths=1.4, zorder=4)


def _constraint(axes: Axes, outcome: Outcome) -> None:
    """Shade the averages that violate the constraint."""
    if outcome.selection.least_average is None:
        return
    least = 100 * outcome.selection.least_average
    left, right = axes.get_xlim()
    left = min(left, least - 0.03 * (right - left))
    axes.axvspan(left, least, color="#000000", alpha=0.035, linewidth=0, zorder=0)
    axes.axvline(least, color="#666666", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_title(f"dashed: the average asked for, {least:.1f}", **_NOTE)
    axes.set_xlim(left, right)


def _legends(figure: Figure, panels: list[Axes], outcome: Outcome) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    c = outcome.selection.combinations
    handles: list[Line2D] = []

    def add(label: str, marker: str = "", color: Any = "#555555", area: float = 60.0) -> None:
        handles.append(
            Line2D([], [], linestyle="", marker=marker, color=color, markersize=area**0.5,
                   markeredgecolor="white", markeredgewidth=0.6, label=label)
        )  # fmt: skip

    add("teacher")
    for place, (objective, alpha) in enumerate(_teachers(c)[0]):
        known = np.nan if alpha < 0 else alpha
        add(objective_name(int(objective), known, r"$\alpha_t$"), _MARKERS[place])
    alpha_s = _student_alpha(c)
    add("student")
    for name in np.array(objective_names())[np.unique(c.student_objective[np.isnan(alpha_s)])]:
        add(name, "o", _color(name))
    if np.isfinite(alpha_s).any():
        add(r"$\alpha_s$ by color", "o", _colors()(0.45))
        scale = ScalarMappable(Normalize(0, 1), _colors())
        bar = figure.colorbar(scale, ax=panels, pad=0.015, aspect=32, fraction=0.03)
        bar.set_label(r"student's trade-off $\alpha_s$   (0 balanced, 1 robust)")
        bar.outline.set_visible(False)
    temperatures = np.unique(c.temperature)
    if temperatures.size > 1:
        add("temperature")
        shown = temperatures if temperatures.size <= 4 else temperatures[[0, -1]]
        for temperature, area in zip(shown, _areas(shown), strict=True):
            add(f"$T$ {temperature:g}", "o", area=area)
    handles.append(Line2D([], [], color=_LINE, linewidth=1.4, label="frontier"))
    if len(outcome.methods.combinations):
        add("other methods")
    for letter, name in letters(outcome).values():
        add(f"{letter}  {_as_it_is(name)}", "x", _OTHER_COLOR)
        handles[-1].set_markeredgecolor(_OTHER_COLOR)
    legend = figure.legend(
        handles=handles,
        loc="outside right upper",
        fontsize=9.5,
        handletextpad=0.5,
        labelspacing=0.5 if len(handles) < 20 else 0.25,
    )
    for text in legend.get_texts():
        if text.get_text() in ("teacher", "student", "temperature", "other methods"):
            text.set_fontweight("bold")


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
    if most > 1:
        parts.append("bars: ±1 s.e.")
    return "   ·   ".join(parts)


def _labels(outcome: Outcome) -> dict[int, str]:
    """Return the labels of marked points by index, other methods last."""
    selection = outcome.selection
    beside = len(selection.combinations)
    others = {beside + place: letter for place, (letter, _) in letters(outcome).items()}
    if selection.selected == selection.reference:
        name = "selected: standard distillation"
        return {selection.selected: f"{name}\n{_settings(outcome, selection.selected)}"} | others
    return {
        selection.reference: f"standard distillation\n{_settings(outcome, selection.reference)}",
        selection.selected: f"selected\n{_settings(outcome, selection.selected)}",
    } | others


def _settings(outcome: Outcome, index: int) -> str:
    c = outcome.selection.combinations
    teacher = objective_name(int(c.teacher_objective[index]), c.alpha_t[index], r"$\alpha_t$")
    student = objective_name(int(c.student_objective[index]), c.alpha_s[index], r"$\alpha_s$")
    temperature = f"$T$ {c.temperature[index]:g}"
    if teacher == student == "standard":
        return temperature
    names = [
        f"{name} {role}" if name in OBJECTIVES else name
        for name, role in ((teacher, "teacher"), (student, "student"))
    ]
    return ", ".join([*names, temperature]) + c.aside(index)


def _accuracies(means: Means) -> FloatArray:
    """Return points in percent, shape ``(combinations, 2)``."""
    return 100 * np.column_stack((means.average, means.worst_k))


def _along(corners: FloatArray) -> FloatArray:
    """Return closely spaced points along a line, shape ``(points, 2)``."""
    steps = np.arange(30 * (len(corners) - 1) + 1) / 30
    at = np.arange(len(corners))
    return np.column_stack([np.interp(steps, at, corners[:, axis]) for axis in (0, 1)])


def _colors() -> Colormap:
    """Return viridis without its lightest yellows, which are hard to see on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0, 0.93, 256)))


def _teachers(c: Combinations) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return distinct teachers as rows (objective, alpha or -1), and each combination's teacher.

    If there are more teachers than markers, all trade-off teachers share one.
    """
    alpha = np.where(np.isnan(c.alpha_t), -1.0, c.alpha_t)
    for merged in (alpha, np.full(alpha.size, -1.0)):
        keys = np.column_stack((c.teacher_objective, merged))
        teachers, which = np.unique(keys, axis=0, return_inverse=True)
        if len(teachers) <= len(_MARKERS):
            break
    return teachers, which.reshape(-1)


def _student_alpha(c: Combinations) -> FloatArray:
    """Return each student's alpha, with balanced as 0 and robust as 1; NaN for all others."""
    return effective_alpha(c.student_objective, c.alpha_s)


def _color(name: str) -> str:
    """Return the color of students whose objective is not a trade-off."""
    return _STANDARD_COLOR if name == "standard" else _OTHER_COLOR


def _areas(temperature: FloatArray) -> FloatArray:
    """Return marker areas by the rank of the temperature."""
    values, rank = np.unique(temperature, return_inverse=True)
    smallest, largest = _AREAS
    if values.size == 1:
        return np.full(temperature.size, (smallest + largest) / 2)
    return smallest + (largest - smallest) * rank / (values.size - 1)
