"""Types of options without a value of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

__all__ = [
    "OptionalFile",
    "OptionalFloat",
    "OptionalFloats",
    "OptionalInt",
    "OptionalName",
    "OptionalNames",
    "OptionalPath",
    "OptionalPlace",
]

# None stands for a default that depends on the data set and the scale. The help texts say so, and
# tyro's own "{None}|" and "(default: None)" are left out.
OptionalFloat = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
OptionalInt = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
OptionalName = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
OptionalPlace = Annotated[str | None, tyro.conf.arg(metavar="PATH|URL", help_behavior_hint="")]
OptionalPath = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
OptionalFile = Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")]
OptionalNames = Annotated[
    tuple[str, ...] | None, tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")
]
OptionalFloats = Annotated[
    tuple[float, ...] | None, tyro.conf.arg(metavar="FLOAT ...", help_behavior_hint="")
]
