import pytest

from rkd_core import datasets
from rkd_core.specs import DataOptions


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's digits with a long tail of ratio 20."""
    cache = tmp_path_factory.mktemp("cache")
    return datasets.load("digits", DataOptions(imbalance=20), cache_dir=cache)


@pytest.fixture(name="load")
def loader(tmp_path):
    """Load a path with a cache folder of the test's own."""

    def load(path, options=None, **keywords):
        cache = tmp_path / "cache"
        return datasets.load(str(path), options or DataOptions(), cache_dir=cache, **keywords)

    return load
