"""Metrics over per-class counts, in NumPy."""

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

__all__ = [
    "arcsine_scaled",
    "average_accuracy",
    "balanced_accuracy",
    "binomial_error",
    "recalls",
    "worst_class_accuracy",
    "worst_k_accuracy",
    "worst_k_reference_accuracy",
]
