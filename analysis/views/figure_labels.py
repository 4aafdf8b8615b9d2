"""Placement of labels in a figure without overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from analysis.runs.columns import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase

__all__ = ["place_labels"]

_DISTANCES = (12, 18, 26, 40, 58, 80, 110, 150, 200)
"""Distances in points between a label's box and its point; nearer is better."""
_ALONG = 30
"""Number of points on a line at which it is held against labels."""
_ANGLES = np.deg2rad(np.arange(0, 360, 15))


def place_labels(
    axes: Axes,
    points: FloatArray,
    labels: Mapping[int, str],
    line: FloatArray,
    renderer: RendererBase,
) -> None:
    """Place each label where it covers least, with a thin line to its point.

    Args:
        axes: Axes with their final layout; nothing may move afterward.
        points: All points in data coordinates, shape ``(points, 2)``; none should be covered.
        labels: Text by index into the points.
        line: Points along a line that should not be covered either, shape ``(any, 2)``.
        renderer: Renderer that measures the texts.
    """
    scale = axes.get_figure(root=True).dpi / 72  # type: ignore[union-attr]
    room = _Room(
        pixels=axes.transData.transform(np.concatenate((points, line))),
        weights=np.r_[np.full(len(points), 3.0), np.full(len(line), 0.8)],
        frame=axes.bbox.get_points(),
        radius=5 * scale,
    )
    for index, text in labels.items():
        note = axes.annotate(
            text,
            (float(points[index, 0]), float(points[index, 1])),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9.5,
            linespacing=1.25,
            bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "#bbbbbb"},
            arrowprops={"arrowstyle": "-", "color": "#555555", "linewidth": 0.9, "shrinkB": 8},
            zorder=6,
        )
        size = note.get_window_extent(renderer)
        half = np.array([size.width, size.height]) / 2 + 4 * scale
        best, best_cost = np.zeros(2), np.inf
        for distance in _DISTANCES:
            for angle in _ANGLES:
                # The distance is measured to the near edge of the box, not to its center.
                shift = np.array([np.cos(angle), np.sin(angle)]) * (distance * scale + half)
                cost = distance / 25 + room.cost(index, shift, half)
                if cost < best_cost:
                    best, best_cost = shift, cost
        note.xyann = (float(best[0] / scale), float(best[1] / scale))
        room.taken.append(room.pixels[index] + best + [-half, half])
        room.lines.append(room.line(index, best))


@dataclass(frozen=True)
class _Room:
    """Points, lines and labels that a label must not cover, in pixels."""

    pixels: FloatArray  # (points, 2)
    weights: FloatArray  # (points,) cost of covering each
    frame: FloatArray  # (2, 2) lower left and upper right corner of the axes
    radius: float  # of a marker
    taken: list[FloatArray] = field(default_factory=list)  # corners of the labels so far
    lines: list[FloatArray] = field(default_factory=list)  # points on the lines to them

    def line(self, index: int, shift: FloatArray) -> FloatArray:
        """Return points on the line from a point to its label, ``(_ALONG, 2)``."""
        return np.asarray(self.pixels[index] + np.linspace(0, 1, _ALONG)[:, None] * shift)

    def cost(self, index: int, shift: FloatArray, half: FloatArray) -> float:
        """Return the cost of a label, given its half size and its shift from its point."""
        away = self.pixels - self.pixels[index]
        covered = (np.abs(away - shift) < half + self.radius).all(axis=1)
        along = np.clip(away @ shift / (shift @ shift), 0, 1)
        crossed = np.hypot(*(along[:, None] * shift - away).T) < self.radius
        crossed &= np.hypot(*away.T) > self.radius
        middle = self.pixels[index] + shift
        low, high = middle - half, middle + half
        overlaps = sum((low < box[1]).all() and (high > box[0]).all() for box in self.taken)
        line = self.line(index, shift)
        overlaps += sum(_within(line, *box) for box in self.taken)
        overlaps += sum(_within(other, low, high) for other in self.lines)
        outside = np.maximum(0, [self.frame[0] - low, high - self.frame[1]]).sum()
        return float(
            (self.weights * (covered + 0.15 * crossed)).sum()
            + 500 * overlaps
            + 20 * outside / self.radius
        )


def _within(line: FloatArray, low: FloatArray, high: FloatArray) -> bool:
    """Return whether a line meets a box."""
    return bool(((line > low) & (line < high)).all(axis=1).any())
