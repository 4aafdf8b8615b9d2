"""Registry of the named datasets, with their folders and default imbalance ratios."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rkd_core import plugins
from rkd_core.errors import UserError, unknown_name

__all__ = ["ARCHIVE", "REGISTRY", "Named", "default_imbalance", "display_name", "names", "unknown"]

LONG_TAIL = "-lt"
ARCHIVE = ".npz"
"""Ending of the name of a NumPy archive, which is no part of the name of the data."""


@dataclass(frozen=True)
class Named:
    """A dataset with a name.

    Attributes:
        summary: One-line description for lists.
        ratio: Imbalance ratio of the ``-lt`` form.
        folders: Accepted names of its folder in a data folder; empty if it is built in.
        downloadable: Whether torchvision can download it.
    """

    summary: str
    ratio: float = 100.0
    folders: tuple[str, ...] = ()
    downloadable: bool = False


REGISTRY: dict[str, Named] = {
    "digits": Named("scikit-learn's 1,797 handwritten digits, 8x8 gray, 10 classes", ratio=20.0),
    "cifar10": Named(
        "50,000 + 10,000 photographs, 32x32, 10 classes",
        folders=("cifar-10-batches-py", "cifar10"),
        downloadable=True,
    ),
    "cifar100": Named(
        "50,000 + 10,000 photographs, 32x32, 100 classes",
        folders=("cifar-100-python", "cifar100"),
        downloadable=True,
    ),
    "tiny-imagenet": Named(
        "100,000 + 10,000 photographs, 64x64, 200 classes",
        folders=("tiny-imagenet-200", "tiny-imagenet", "tiny_imagenet"),
    ),
    "imagenet": Named(
        "1,281,167 + 50,000 photographs of any size, 1,000 classes; streamed",
        folders=("imagenet", "imagenet-1k"),
    ),
}


def names() -> dict[str, str]:
    """Return every name that ``load`` accepts, with a one-line description."""
    table: dict[str, str] = {}
    for name, named in REGISTRY.items():
        table[name] = named.summary
        table[name + LONG_TAIL] = f"{name}, long-tailed: exponential, ratio {named.ratio:g}"
    return table


def default_imbalance(name: str) -> float | None:
    """Return the imbalance ratio of a ``-lt`` name; None for any other name or path."""
    if not name.endswith(LONG_TAIL):
        return None
    named = REGISTRY.get(name.removesuffix(LONG_TAIL))
    return None if named is None else named.ratio


def display_name(name_or_path: str) -> str:
    """Return the name shown to users: the name itself, or that of a folder or function."""
    if plugins.is_reference(name_or_path):
        return name_or_path.rpartition(":")[2]
    if name_or_path in names():
        return name_or_path
    return Path(name_or_path).resolve().name.removesuffix(ARCHIVE)


def unknown(name_or_path: str) -> UserError:
    """Return the error for an unknown name that is not a folder, with similar names."""
    lower = name_or_path.lower()  # all names are in lower case
    line = str(
        unknown_name(
            "dataset",
            lower,
            [*names(), *plugins.datasets.names()],
            f", or a folder (there is none called {name_or_path!r})",
        )
    )
    return UserError(line.replace(repr(lower), repr(name_or_path), 1))


def _check(name: str, target: object) -> None:
    if not callable(target):
        raise UserError(f"{type(target).__name__} is not a function that returns data")


plugins.datasets.built_in(names, _check)
