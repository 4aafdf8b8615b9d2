"""Networks of the students, with their sizes, and limits on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from analysis.runs.loading import Runs
from rkd_core.errors import UserError
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text
from rkd_core.text.numbers import plural

__all__ = ["LATENCY", "Limits", "Network", "networks_of", "too_large", "within"]

LATENCY = "latency.json"
"""File in the results folder with the multiply-adds and the latency of each network."""


@dataclass(frozen=True)
class Network:
    """A network of the students; a size is None if it is not known."""

    name: str
    parameters: int | None
    multiply_adds: int | None = None
    """Multiply-adds of a forward pass of one image."""
    latency: float | None = None
    """Seconds for one image on one CPU thread."""
    throughput: float | None = None
    """Images per second in batches on one CPU thread."""


@dataclass(frozen=True)
class Limits:
    """Largest sizes of the networks to select among; None for no limit."""

    parameters: int | None = None
    multiply_adds: int | None = None
    latency: float | None = None
    """Milliseconds for one image."""


def networks_of(runs: Runs) -> dict[str, Network]:
    """Return the networks of the students by name, the smallest first."""
    table = runs.students.group_by("architecture").aggregate([("parameters", "max")])
    measured = {} if runs.results is None else _measured(runs.results)
    found = [
        Network(row["architecture"], row["parameters_max"], *measured.get(row["architecture"], ()))
        for row in table.to_pylist()
    ]
    # Damaged records may lack the name.
    found.sort(key=lambda one: (one.parameters is None, one.parameters or 0, one.name or ""))
    return {one.name: one for one in found}


def _measured(results: Location) -> dict[str, tuple[int, float, float]]:
    """Return the multiply-adds, the latency and the throughput of networks.

    Raises:
        UserError: The file is damaged.
    """
    path = results / LATENCY
    try:
        measured = json_text.parse_object(files.read(path))["networks"]
        found = {
            name: (int(one["multiply_adds"]), float(one["latency"]), float(one["throughput"]))
            for name, one in measured.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = {"": (0, 0.0, 0.0)}
    if not all(0 < value < math.inf for values in found.values() for value in values):
        raise UserError(f"{path} is damaged: delete it, and the same sweep measures it again")
    return found


_SIZES: dict[str, tuple[Callable[[Network], float | None], Callable[[float], str]]] = {
    "parameters": (lambda one: one.parameters, lambda size: plural(int(size), "parameter")),
    "multiply_adds": (
        lambda one: one.multiply_adds,
        lambda size: plural(int(size), "multiply-add"),
    ),
    "latency": (
        lambda one: None if one.latency is None else 1000 * one.latency,
        lambda size: f"{size:.3g} ms for an image",
    ),
}
"""Size that each limit is on, and its text."""
_UNKNOWN = {
    "parameters": "the records of {} do not state its parameters",
    "multiply_adds": "the multiply-adds of {} are not known; the same sweep with this option "
    "counts them",
    "latency": "the latency of {} is not known; the same sweep with this option measures it",
}


def too_large(networks: Iterable[Network], limits: Limits) -> dict[str, str]:
    """Return the names of the networks beyond a limit, each with its size and the option.

    Raises:
        UserError: All networks are beyond a limit, or a size is not known.
    """
    left = list(networks)
    found: dict[str, str] = {}
    for name, limit in vars(limits).items():
        if limit is None:
            continue
        option, (size_of, text) = f"--max-{name.replace('_', '-')}", _SIZES[name]
        sizes: dict[str, float] = {}
        for network in left:
            size = size_of(network)
            if size is None:
                raise UserError(f"{option}: {_UNKNOWN[name].format(network.name)}")
            sizes[network.name] = size
        over = {network: text(size) for network, size in sizes.items() if size > limit}
        if len(over) == len(left):
            smallest = min(sizes, key=lambda network: sizes[network])
            raise UserError(
                f"{option} {limit:g}: no network is within it; "
                f"the smallest is {smallest} with {over[smallest]}"
            )
        found |= {network: f"{size} ({option})" for network, size in over.items()}
        left = [network for network in left if network.name not in over]
    return found


def within(runs: Runs, limits: Limits) -> Runs:
    """Return the runs of the networks within the limits, with a note on the others.

    Raises:
        UserError: No network is within the limits, or a size is not known.
    """
    if limits == Limits():
        return runs
    networks = networks_of(runs)
    over = too_large(networks.values(), limits)
    kept = networks.keys() - over.keys()

    def cut(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["architecture"], value_set=pa.array([*kept])))

    return replace(
        runs,
        students=cut(runs.students),
        variants=cut(runs.variants),
        shifted=None if runs.shifted is None else cut(runs.shifted),
        notes=(*runs.notes, *(f"{name} left out: {reason}" for name, reason in over.items())),
    )
