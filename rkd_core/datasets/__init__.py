"""Datasets: readers, decoding with a disk cache, splits, long-tail profiles and batches.

Importing this package imports neither torch nor scikit-learn; ``batches`` needs torch and is
imported separately.
"""

from rkd_core.datasets.array_set import ArraySet
from rkd_core.datasets.image_set import Dataset, ImageSet
from rkd_core.datasets.load import from_data, load
from rkd_core.datasets.readers.parquet_columns import Columns
from rkd_core.datasets.registry import default_imbalance, display_name, names
from rkd_core.datasets.splits import long_tail_counts
from rkd_core.datasets.streamed_set import StreamedImageSet

__all__ = [
    "ArraySet",
    "Columns",
    "Dataset",
    "ImageSet",
    "StreamedImageSet",
    "default_imbalance",
    "display_name",
    "from_data",
    "load",
    "long_tail_counts",
    "names",
]
