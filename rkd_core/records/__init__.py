"""Records: one row per trained model, with per-class counts.

Counts are stored rather than accuracies alone, so that every metric and every interval can be
computed years later. Imports neither torch nor ray.
"""

from rkd_core.records.parquet import (
    digests,
    parse,
    read,
    serialize,
    write,
)
from rkd_core.records.rows import (
    identity,
)
from rkd_core.records.schema import (
    SCHEMA,
    SCHEMA_VERSION,
)

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "digests",
    "identity",
    "parse",
    "read",
    "serialize",
    "write",
]
