"""Reading of arrays for the model in the folder of this file, with NumPy only.

An exported model of float arrays contains a copy of this module next to its
``preprocessing.json``::

    from preprocess import load_arrays

    rows = load_arrays("rows.npy")  # float32 (n, ...)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_arrays"]


def load_arrays(values: str | Path | NDArray[Any]) -> NDArray[np.float32]:
    """Return rows as the model takes them, which standardizes them itself.

    Args:
        values: Rows ``(n, ...)`` or a single row, or the path of a ``.npy`` file of them.

    Returns:
        float32 ``(n, ...)``.

    Raises:
        ValueError: The rows have another shape than those of the training, or are not finite.
    """
    settings = json.loads(Path(__file__).with_name("preprocessing.json").read_bytes())
    shape = tuple(settings["input"]["shape"][1:])
    given = np.load(values, allow_pickle=False) if isinstance(values, str | Path) else values
    rows = np.asarray(given)
    if rows.shape == shape:
        rows = rows[None]
    if rows.shape[1:] != shape:
        raise ValueError(f"rows have shape {rows.shape[1:]}; the model takes {shape}")
    with np.errstate(over="ignore"):  # checked below
        rows = np.array(rows, dtype=np.float32)  # a copy, writable as torch requires
    if not np.isfinite(rows).all():
        raise ValueError("rows have values that are not finite in float32")
    return rows
