import pytest

from rkd_core.datasets import load
from rkd_core.specs import DataOptions


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's digits with a long tail of ratio 20."""
    cache = tmp_path_factory.mktemp("cache")
    return load("digits", DataOptions(imbalance=20), cache_dir=cache)
