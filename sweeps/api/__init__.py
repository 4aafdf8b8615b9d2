"""Python interface: describe a sweep, run it, and read its results."""

from sweeps.api.results import Accuracy, Report, Results, Selected
from sweeps.api.sweep import Sweep

__all__ = ["Accuracy", "Report", "Results", "Selected", "Sweep"]
