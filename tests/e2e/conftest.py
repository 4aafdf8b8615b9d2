import pytest

from tests.e2e.command import GRID, pareto


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """One sweep on Ray, which the tests below look at."""
    out = tmp_path_factory.mktemp("swept") / "results"
    done = pareto("--dataset", "digits-lt", *GRID, "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done
