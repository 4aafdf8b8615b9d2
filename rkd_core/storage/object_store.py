"""Object stores behind ``rkd_core.storage.files``: locations, and writes that one writer wins.

``s3://bucket/prefix`` and ``gs://bucket/prefix`` are ``upath.UPath``s on s3fs and gcsfs, with the
credentials of the usual places. A store has no rename, but it has conditional writes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from rkd_core.errors import UserError

__all__ = [
    "check_exclusive",
    "create",
    "exists",
    "identities",
    "is_folder",
    "location",
    "move",
    "names",
    "put",
    "pyarrow_system",
    "read",
    "remove",
    "written_at",
]

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_OPTIONS = {
    "s3": ("endpoint_override", "region", "scheme"),
    "gs": ("endpoint_override", "project_id", "scheme"),
}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted", "409", "412"}
_CONNECTIONS = 32
_SECONDS = 20  # to connect, and to wait for a first byte


def location(text: str) -> Path:
    """A prefix of a store, with the options that pyarrow has for it: ``s3://b/p?region=...``.

    Raises:
        UserError: It is no store that is known, has an unknown option, or lacks a package.
    """
    parts = urlsplit(text)
    scheme = {"gcs": "gs"}.get(parts.scheme, parts.scheme)
    if scheme not in _PACKAGES:
        raise UserError(
            f"{text}: {parts.scheme}:// is not known; give a folder, s3://bucket/prefix or "
            "gs://bucket/prefix"
        )
    user, _, bucket = parts.netloc.rpartition("@")
    if user and (scheme, user) != ("gs", "anonymous"):
        raise UserError(
            f"{scheme}://{bucket}{parts.path}: leave credentials out; they come from the "
            "environment or the cloud's own configuration"
        )
    keys = [unquote(key) for key in parts.path.split("/") if key]
    if not bucket or parts.fragment or {".", ".."} & set(keys):
        raise UserError(f"{text}: give {scheme}://bucket/prefix, without # and ..")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _OPTIONS[scheme] or not value:
            known = ", ".join(_OPTIONS[scheme])
            raise UserError(f"{text}: {name}={value} is not an option; there are {known}")
    if options.get("scheme", "https") not in ("http", "https"):
        raise UserError(f"{text}: scheme={options['scheme']} is neither http nor https")
    # gcsfs would ask over gRPC what kind of bucket it is, which no other endpoint answers; all that
    # is done here works on every kind.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        importlib.import_module(_PACKAGES[scheme])
        from upath import UPath
    except ModuleNotFoundError as error:
        raise UserError(
            f"{text}: the package {error.name} is not installed; install it with: "
            f"pip install -e '.[{'s3' if scheme == 's3' else 'gcs'}]'"
        ) from None
    path = UPath("/".join([f"{scheme}://{bucket}", *keys]), **_settings(scheme, user, options))
    # Not a subclass of pathlib's, but spelt the same; what differs is done in this module.
    return cast(Path, path)


def _settings(scheme: str, user: str, options: dict[str, str]) -> dict[str, Any]:
    """What s3fs and gcsfs are told. No listing is remembered: other processes write meanwhile."""
    settings: dict[str, Any] = {"use_listings_cache": False}
    endpoint = options.get("endpoint_override")
    if endpoint is not None:
        if "://" not in endpoint:
            endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
        settings["endpoint_url"] = endpoint
    if scheme == "gs":
        if user:
            settings["token"] = "anon"
        if "project_id" in options:
            settings["project"] = options["project_id"]
        return settings
    if "region" in options:
        settings["client_kwargs"] = {"region_name": options["region"]}
    if "scheme" in options and endpoint is None:
        settings["use_ssl"] = options["scheme"] == "https"
    settings["config_kwargs"] = {
        "connect_timeout": _SECONDS,
        "max_pool_connections": _CONNECTIONS,
        "retries": {"mode": "standard"},
    }
    return settings


def _system(path: Path) -> Any:
    """The fsspec file system; one for each thread, as fsspec has it."""
    return cast(Any, path).fs


def _key(path: Path) -> str:
    """Bucket and key."""
    return str(cast(Any, path).path).rstrip("/")


def pyarrow_system(path: Path) -> tuple[str, Any]:
    """Bucket and key, and pyarrow's face of the same file system, credentials and all."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return _key(path), PyFileSystem(FSSpecHandler(_system(path)))


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Whatever the libraries raise, the callers know what to do about an ``OSError``."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{path}: {reason}") from error


def create(path: Path, content: bytes, replaceable: Callable[[bytes], bool] | None) -> bool:
    """Create an object as ``files.create`` does, by writes conditional on the current version."""
    system, key, attempt = _system(path), _key(path), uuid.uuid4().hex
    version: str | None = None
    while True:
        with _reported(path):
            if _put_if(system, key, content, attempt, version):
                return True
            # The version is asked for first: if it is replaced below, then the content was its.
            try:
                info = system.info(key)
                if _attempt(system, key) == attempt:  # only the answer was lost on its way
                    return True
                if replaceable is None:
                    return False
                standing = system.cat_file(key)
            except FileNotFoundError:
                version = None
                continue
        if not replaceable(standing):
            return False
        version = str(info.get("generation") or info["ETag"])


def _put_if(system: Any, key: str, content: bytes, attempt: str, version: str | None) -> bool:
    """Write if nothing is there, or this version; whether it was written, as far as one can say."""
    gcs = "gs" in system.protocol
    labels = {"metadata" if gcs else "Metadata": {"attempt": attempt}}
    try:
        if version is not None and not gcs:
            system.pipe_file(key, content, IfMatch=version, **labels)
            return True
        if version is not None:  # gcsfs replaces unconditionally, but what is deleted is absent
            bucket, name, _ = system.split_path(key)
            system.call("DELETE", "b/{}/o/{}", bucket, name, ifGenerationMatch=version)
        system.pipe_file(key, content, mode="create", **labels)
    except FileExistsError:
        return False
    except OSError as error:
        response = getattr(error.__cause__, "response", {})
        gone = version is not None and isinstance(error, FileNotFoundError)
        if not gone and response.get("Error", {}).get("Code") not in _TAKEN:
            raise
        return False
    return True


def _attempt(system: Any, key: str) -> str | None:
    try:
        return cast("str | None", system.getxattr(key, "attempt"))
    except KeyError:
        return None


def check_exclusive(folder: Path) -> None:
    """Try whether a store can be written, and keeps what a second one would create.

    Raises:
        UserError: It does not, so that nothing here would be safe from another process.
        OSError: It cannot be written.
    """
    path = folder / f".{uuid.uuid4().hex}"
    try:
        if create(path, b"", None) and create(path, b"", None):
            raise UserError(
                f"{folder}: this store ignores conditional writes (If-None-Match), without which "
                "two processes could commit the same run; give another place"
            )
    finally:
        remove(path)


def put(path: Path, content: bytes) -> None:
    """Write an object, replacing what was there; it is whole or not there."""
    with _reported(path):
        _system(path).pipe_file(_key(path), content)


def read(path: Path) -> bytes:
    """All of an object."""
    with _reported(path):
        return bytes(_system(path).cat_file(_key(path)))


def exists(path: Path) -> bool:
    """Whether there is an object of this name, or any below it."""
    with _reported(path):
        return bool(_system(path).exists(_key(path)))


def is_folder(path: Path) -> bool:
    """Whether there are objects below this name."""
    with _reported(path):
        return bool(_system(path).isdir(_key(path)))


def names(folder: Path) -> list[str]:
    """The next part of all names below this one, once each, in order."""
    key = _key(folder)
    try:
        with _reported(folder):
            listed = [str(name).rstrip("/") for name in _system(folder).ls(key, detail=False)]
    except FileNotFoundError:
        return []
    return sorted(name.removeprefix(f"{key}/") for name in listed if name.startswith(f"{key}/"))


def identities(folder: Path) -> dict[str, str]:
    """Return the entries of ``names``, each with the store's version of the object.

    The text is empty for entries that are not objects.
    """
    key = _key(folder)
    try:
        with _reported(folder):
            listed = _system(folder).ls(key, detail=True)
    except FileNotFoundError:
        return {}
    found = {}
    for entry in listed:
        name, version = str(entry["name"]).rstrip("/"), entry.get("ETag") or entry.get("etag")
        version = " ".join(str(v) for v in (entry.get("generation"), version) if v)
        if name.startswith(f"{key}/"):
            is_object = version and entry.get("type") == "file"
            found[name.removeprefix(f"{key}/")] = f"{entry['size']} {version}" if is_object else ""
    return dict(sorted(found.items()))


def written_at(path: Path) -> float | None:
    """When the newest object of this name, or below it, was written: seconds since 1970, or None.

    The clock is the store's.
    """
    system = _system(path)
    with _reported(path):
        times = [system.modified(key).timestamp() for key in system.find(_key(path))]
    return max(times, default=None)


def remove(path: Path) -> None:
    """Delete an object, or all below a name."""
    with _reported(path), contextlib.suppress(FileNotFoundError):
        _system(path).rm(_key(path), recursive=True)


def move(path: Path, target: Path) -> None:
    """Copy an object, or all below a name, and delete what was copied."""
    system, source = _system(path), _key(path)
    with _reported(path):
        for key in system.find(source):
            system.cp_file(key, _key(target) + key.removeprefix(source))
    remove(path)
