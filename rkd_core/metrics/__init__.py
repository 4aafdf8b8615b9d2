"""Metrics over per-class counts or predictions, in NumPy."""

from rkd_core.metrics.accuracy import (
    arcsine_scaled,
    average_accuracy,
    balanced_accuracy,
    binomial_error,
    recalls,
    worst_class_accuracy,
    worst_k_accuracy,
    worst_k_reference_accuracy,
)
from rkd_core.metrics.per_class import ClassMetric

__all__ = [
    "ClassMetric",
    "arcsine_scaled",
    "average_accuracy",
    "balanced_accuracy",
    "binomial_error",
    "recalls",
    "worst_class_accuracy",
    "worst_k_accuracy",
    "worst_k_reference_accuracy",
]
