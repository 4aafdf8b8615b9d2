"""Multiply-adds and latency of the students' networks, kept in the results folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from typing import Any

from analysis.runs.networks import LATENCY
from rkd_core.datasets import Dataset
from rkd_core.errors import UserError, first_line
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text
from rkd_core.text.nouns import counted
from sweeps.planning.settings import Settings

__all__ = ["keep_latency"]


def keep_latency(
    settings: Settings, dataset: Dataset, out: Location, say: Callable[[str], None]
) -> None:
    """Measure the networks once, all on the same machine, and write ``latency.json``.

    Args:
        settings: Settings with the networks.
        dataset: Data with the shape of the images.
        out: Results folder.
        say: Function that prints a line.
    """
    shape = [dataset.channels, *dataset.image_size]
    wanted = {
        name: [settings.network_digests.get(name), dataset.classes, shape]
        for name in settings.student_architectures
    }
    kept = _kept(out).get("networks", {})
    if all(kept.get(name, {}).get("of") == of for name, of in wanted.items()):
        return
    import torch

    from rkd_core.models import cost

    networks = counted(len(wanted), "network")
    say(f"Measuring the latency of {networks} on one thread of this machine")
    found: dict[str, Any] = {}
    for name, of in wanted.items():
        image = dataset.channels, tuple(dataset.image_size)
        network = name, dataset.classes, *image, settings.network_digests.get(name)
        try:
            count, measured = cost.multiply_adds(*network), cost.speed(*network)
        except (UserError, RuntimeError) as error:
            say(f"No latency of {name}: {first_line(error)}")
            continue
        found[name] = {"of": of, "multiply_adds": count, **measured._asdict()}
    content = {
        "networks": found,
        "batch": cost.BATCH,
        "threads": 1,
        "host": platform.node(),
        "torch": torch.__version__,
    }
    try:
        files.replace_file(out / LATENCY, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        say(f"No latency: {out / LATENCY} cannot be written: {error}")


def _kept(out: Location) -> dict[str, Any]:
    """Return the content of ``latency.json``; empty if there is none from this machine."""
    try:
        content = json_text.parse_object(files.read(out / LATENCY))
    except (OSError, ValueError):
        return {}
    return content if content.get("host") == platform.node() else {}
