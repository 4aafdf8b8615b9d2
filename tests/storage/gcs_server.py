"""A Google Cloud Storage server on loopback: gcp-storage-emulator, with the conditions it lacks."""

import contextlib
import logging
from http import HTTPStatus

import pytest
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def conditional(handler, name_of):
    """Answer 412 unless the object has the requested generation; 0 means that it does not exist."""

    def handle(request, response, storage, *rest, **more):
        wanted = request.query.get("ifGenerationMatch")
        try:
            bucket, name = request.params["bucket_name"], name_of(request)
            found = storage.get_file_obj(bucket, name)["generation"]
        except NotFound:
            found = "0"
        if wanted and wanted[0] != found:
            response.status = HTTPStatus.PRECONDITION_FAILED
            return
        handler(request, response, storage, *rest, **more)

    return handle


@contextlib.contextmanager
def running():
    """Yields host:port; ``bucket`` is there. It answers one request at a time."""
    upload = conditional(objects._multipart_upload, lambda r: r.data["meta"]["name"])
    delete = conditional(objects.delete, lambda r: r.params["object_id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_multipart_upload", upload)
        for _, handlers in server.HANDLERS:
            if handlers.get("DELETE") is objects.delete:
                patch.setitem(handlers, "DELETE", delete)
        logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
        with server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket") as made:
            yield f"127.0.0.1:{made._api._httpd.server_port}"
