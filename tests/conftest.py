import os

import hypothesis
import pytest

from tests.fuzz.cases import COUNT

# Tests run beside each other and beside Ray's workers; more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine may take long over one case; the timeout of the test stays.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Decoded data go to a folder of this session, never to the user's own cache."""
    before = {name: os.environ.get(name) for name in ("RKD_CACHE_DIR", "RKD_DATA_DIR")}
    os.environ["RKD_CACHE_DIR"] = str(tmp_path_factory.mktemp("rkd-cache"))
    os.environ.pop("RKD_DATA_DIR", None)
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def pytest_sessionfinish(session):
    """Send the counts of a worker to the controller."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz"] = dict(COUNT)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    COUNT.update(getattr(node, "workeroutput", {}).get("fuzz", {}))


def pytest_terminal_summary(terminalreporter):
    if COUNT:
        terminalreporter.write_line(
            f"fuzz: {COUNT['fuzz']:,} cases, and {COUNT['changes']:,} single changes of files"
        )
