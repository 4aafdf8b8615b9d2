"""Data: find it, decode it once, cut it into training, validation and test.

What belongs here: the readers of each accepted layout, the disk cache of decoded images, the
long-tail profiles, the splits, and the batches that training and evaluation iterate over. What
does not: anything about networks or objectives.

Importing this package imports neither torch nor scikit-learn; ``batches`` needs torch and is
imported on its own.
"""

from rkd_core.datasets.image_set import Dataset, ImageSet
from rkd_core.datasets.load import load
from rkd_core.datasets.registry import default_imbalance, display_name, names
from rkd_core.datasets.splits import long_tail_counts
from rkd_core.datasets.streamed_set import StreamedImageSet

__all__ = [
    "Dataset",
    "ImageSet",
    "StreamedImageSet",
    "default_imbalance",
    "display_name",
    "load",
    "long_tail_counts",
    "names",
]
