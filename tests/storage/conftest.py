import os
import uuid

import pytest

from rkd_core import datasets
from rkd_core.specs import DataOptions
from rkd_core.storage import files

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # before it is imported

KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="session")
def server():
    pytest.importorskip("moto", reason="moto, an S3 server for tests, is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    from tests.storage.server import Server

    with Server().running() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def url(server):
    """Return an empty prefix in a new bucket."""
    bucket = f"bucket-{uuid.uuid4().hex}"
    url = f"s3://{bucket}/some/results?endpoint_override={server.address}&scheme=http"
    files.location(url).fs.mkdir(bucket)
    return url


@pytest.fixture(scope="session")
def gcs_server():
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
    pytest.importorskip("gcsfs", reason="gcsfs is not installed")
    from tests.storage.gcs_server import running

    with running() as address:
        yield address


@pytest.fixture(params=["local", "s3", "gs"])
def out(request, tmp_path):
    """Return a results folder that does not exist yet, on disk or in a store."""
    if request.param == "local":
        return tmp_path / "results"
    if request.param == "s3":
        return files.location(request.getfixturevalue("url"))
    address, name = request.getfixturevalue("gcs_server"), uuid.uuid4().hex
    return files.location(f"gs://anonymous@bucket/{name}?endpoint_override={address}&scheme=http")


@pytest.fixture(scope="session")
def dataset():
    return datasets.load("digits", DataOptions(imbalance=20))
