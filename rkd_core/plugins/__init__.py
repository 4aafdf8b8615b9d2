"""Plug-ins: networks, data sets, methods and the like that users add by name.

Each kind has a registry, whose ``register`` decorates a class or function, as in
``@networks.register("tiny")``.

Commands import the modules that ``--plugin`` names. Installed packages name theirs by entry points
of the groups ``robust_distillation.networks``, ``.datasets`` and so on, one for each registry.
``docs/extend.md`` has an example of each kind.
"""

from __future__ import annotations

from rkd_core.plugins.kept import search
from rkd_core.plugins.objects import call, is_reference, load_object, reference_to
from rkd_core.plugins.registry import (
    Registry,
    criteria,
    datasets,
    keep,
    load,
    methods,
    metrics,
    networks,
    objectives,
    search_strategies,
)

__all__ = [
    "Registry",
    "call",
    "criteria",
    "datasets",
    "is_reference",
    "keep",
    "load",
    "load_object",
    "methods",
    "metrics",
    "networks",
    "objectives",
    "reference_to",
    "search",
    "search_strategies",
]
