"""Objects in a store, S3 or Google Cloud Storage, created by conditional writes through fsspec."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from rkd_core.errors import UserError

__all__ = ["ObjectPath", "ObjectStore", "location"]

_PACKAGES = {"s3": "s3fs", "gs": "gcsfs"}
_OPTIONS = {
    "s3": ("endpoint_override", "region", "scheme"),
    "gs": ("endpoint_override", "project_id", "scheme"),
}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "OperationAborted", "409", "412"}
_CONNECTIONS = 32
_SECONDS = 20  # to connect, and to wait for a first byte


@dataclass(frozen=True, repr=False)
class ObjectPath:
    """Name of an object, or a prefix of names, in a store; its parts read like those of a path.

    Attributes:
        protocol: ``s3`` or ``gs``.
        path: Bucket and key.
        storage_options: Arguments of the fsspec file system.
    """

    protocol: str
    path: str
    storage_options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def fs(self) -> Any:
        """The fsspec file system, which fsspec keeps for each thread."""
        import fsspec

        return fsspec.filesystem(self.protocol, **self.storage_options)

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.path.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Last part of the key, without its suffix."""
        return self.name.rpartition(".")[0] or self.name

    @property
    def parent(self) -> ObjectPath:
        """The prefix that holds this name."""
        return self._at(self.path.rpartition("/")[0])

    def with_name(self, name: str) -> ObjectPath:
        """Return a path with another last part."""
        return self.parent / name

    def absolute(self) -> ObjectPath:
        """Return this path, since there are no relative ones."""
        return self

    def __truediv__(self, key: str) -> ObjectPath:
        return self._at(f"{self.path}/{key}")

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path}"

    __repr__ = __str__

    def _at(self, path: str) -> ObjectPath:
        return ObjectPath(self.protocol, path, self.storage_options)


def location(text: str) -> ObjectPath:
    """Return a prefix of a store, with the options that pyarrow has for it: ``s3://b/p?region=...``.

    Raises:
        UserError: The store is not supported, an option is unknown, or a package is missing.
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
    # gcsfs would ask over gRPC for the kind of the bucket, which only Google's endpoint answers;
    # the operations used here work on every kind.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        importlib.import_module(_PACKAGES[scheme])
    except ModuleNotFoundError as error:
        raise UserError(
            f"{text}: the package {error.name} is not installed; install it with: "
            f"pip install -e '.[{'s3' if scheme == 's3' else 'gcs'}]'"
        ) from None
    return ObjectPath(scheme, "/".join([bucket, *keys]), _settings(scheme, user, options))


def _settings(scheme: str, user: str, options: dict[str, str]) -> dict[str, Any]:
    """Return arguments for s3fs or gcsfs; nothing is cached, since other processes write."""
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


class ObjectStore:
    """The stores that ``location`` supports; a folder is a prefix that some object's name has."""

    concurrency = 32
    poll_seconds = 5.0

    def read(self, path: ObjectPath) -> bytes:
        """Return the content of an object."""
        with _reported(path):
            return bytes(path.fs.cat_file(path.path))

    def digest(self, path: ObjectPath) -> str:
        """Return the SHA-256 of an object."""
        return hashlib.sha256(self.read(path)).hexdigest()

    def create(
        self, path: ObjectPath, content: bytes, replaceable: Callable[[bytes], bool] | None
    ) -> bool:
        """Create an object by writes that are conditional on the current version."""
        system, key, attempt = path.fs, path.path, uuid.uuid4().hex
        version: str | None = None
        while True:
            with _reported(path):
                if _put_if(system, key, content, attempt, version):
                    return True
                # Ask for the version before the content, so that the write below cannot replace a
                # later version than the one that was examined.
                try:
                    info = system.info(key)
                    if _attempt(system, key) == attempt:  # only the response was lost
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

    def replace(self, path: ObjectPath, content: bytes) -> None:
        """Write an object."""
        with _reported(path):
            path.fs.pipe_file(path.path, content)

    def commit_folder(
        self,
        path: ObjectPath,
        contents: Mapping[str, bytes],
        marker: str,
        describe: Callable[[str | None], bytes],
    ) -> bool:
        """Commit the files in a folder of their own, which the one marker that wins names."""
        if self.is_committed(path, marker):
            return False
        attempt = uuid.uuid4().hex
        for name, content in contents.items():
            self.replace(path / attempt / name, content)
        committed = self.create(path / marker, describe(attempt), None)
        if not committed:
            with contextlib.suppress(OSError):
                self.remove(path / attempt)
        return committed

    def is_committed(self, path: ObjectPath, marker: str) -> bool:
        """Return whether the marker exists."""
        return self.exists(path / marker)

    def exists(self, path: ObjectPath) -> bool:
        """Return whether there is an object with this name, or any below it."""
        with _reported(path):
            return bool(path.fs.exists(path.path))

    def is_folder(self, path: ObjectPath) -> bool:
        """Return whether there are objects below this name."""
        with _reported(path):
            return bool(path.fs.isdir(path.path))

    def names(self, folder: ObjectPath) -> list[str]:
        """Return the next part of all names below this one, once each, in order."""
        key = folder.path
        try:
            with _reported(folder):
                listed = [str(name).rstrip("/") for name in folder.fs.ls(key, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(f"{key}/") for name in listed if name.startswith(f"{key}/"))

    def identities(self, folder: ObjectPath, *, recent: bool) -> dict[str, str]:
        """Return size and version of each object."""
        key = folder.path
        try:
            with _reported(folder):
                listed = folder.fs.ls(key, detail=True)
        except FileNotFoundError:
            return {}
        found = {}
        for entry in listed:
            name, version = str(entry["name"]).rstrip("/"), entry.get("ETag") or entry.get("etag")
            version = " ".join(str(v) for v in (entry.get("generation"), version) if v)
            if name.startswith(f"{key}/"):
                is_object = version and entry.get("type") == "file"
                identity = f"{entry['size']} {version}" if is_object else ""
                found[name.removeprefix(f"{key}/")] = identity
        return dict(sorted(found.items()))

    def written_at(self, path: ObjectPath) -> float | None:
        """Return the time of the newest write at or below this name, by the store's clock."""
        system = path.fs
        with _reported(path):
            times = [system.modified(key).timestamp() for key in system.find(path.path)]
        return max(times, default=None)

    def make_folder(self, path: ObjectPath) -> None:
        """Do nothing."""

    def remove(self, path: ObjectPath) -> None:
        """Delete an object, or all below a name."""
        with _reported(path), contextlib.suppress(FileNotFoundError):
            path.fs.rm(path.path, recursive=True)

    def remove_if_empty(self, folder: ObjectPath) -> None:
        """Do nothing."""

    def set_aside(self, path: ObjectPath, hidden: str) -> None:
        """Copy an object, or all below a name, and delete what was copied."""
        system, target = path.fs, path.with_name(hidden).path
        with _reported(path):
            for key in system.find(path.path):
                system.cp_file(key, target + key.removeprefix(path.path))
        self.remove(path)

    def check_writable(self, folder: ObjectPath) -> None:
        """Create an object twice; raise a UserError if the store lets the second one win."""
        path = folder / f".{uuid.uuid4().hex}"
        try:
            if self.create(path, b"", None) and self.create(path, b"", None):
                raise UserError(
                    f"{folder}: this store ignores conditional writes (If-None-Match), without "
                    "which two processes could commit the same run; give another place"
                )
        finally:
            with contextlib.suppress(OSError):
                self.remove(path)

    def free_bytes(self, folder: ObjectPath) -> float:
        """Return infinity."""
        return float("inf")

    def lock(self, path: ObjectPath, seconds: float) -> contextlib.AbstractContextManager[bool]:
        """Return a context that holds no lock, since stores have none."""
        return contextlib.nullcontext(False)

    def pyarrow_system(self, path: ObjectPath) -> tuple[str, Any]:
        """Return bucket and key, and pyarrow's view of the same fsspec file system."""
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return path.path, PyFileSystem(FSSpecHandler(path.fs))


@contextlib.contextmanager
def _reported(path: ObjectPath) -> Iterator[None]:
    """Raise an ``OSError`` for every error of the libraries."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{path}: {reason}") from error


def _put_if(system: Any, key: str, content: bytes, attempt: str, version: str | None) -> bool:
    """Write if there is no object, or this version of it; return whether it certainly was."""
    gcs = "gs" in system.protocol
    labels = {"metadata" if gcs else "Metadata": {"attempt": attempt}}
    try:
        if version is not None and not gcs:
            system.pipe_file(key, content, IfMatch=version, **labels)
            return True
        if version is not None:  # gcsfs replaces without a condition, so delete with one and create
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
