"""Records: one row per trained model, with per-class counts.

Records store counts, not only accuracies, so that any metric and interval can be computed later.
"""

from rkd_core.records.parquet import (
    digests,
    parse,
    read,
    serialize,
    write,
)
from rkd_core.records.rows import (
    family_without_teacher,
    identity,
)
from rkd_core.records.schema import (
    SCHEMA,
    SCHEMA_VERSION,
    Record,
)

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "Record",
    "digests",
    "family_without_teacher",
    "identity",
    "parse",
    "read",
    "serialize",
    "write",
]
