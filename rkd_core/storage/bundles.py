"""Bundles: folders of files with a manifest of their checksums, each for one run.

``manifest.json`` holds the size and SHA-256 of every other file, and its own SHA-256. A bundle
appears complete or not at all, and is compared with its manifest before it is used. In an object
store, where folders cannot be renamed, each attempt writes its files into a separate folder.
Only one manifest is created; it names its folder, and the others are never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from rkd_core.errors import UserError
from rkd_core.storage import files
from rkd_core.storage.files import Location, storage_of
from rkd_core.text import json_text

__all__ = ["MANIFEST", "check", "checksums", "exists", "forget", "leftovers", "read", "write"]

MANIFEST = "manifest.json"
"""Name of the manifest, beside the bundle's files or above the folder of its attempt."""
_ATTEMPT = re.compile(r"[0-9a-f]{32}")


def write(path: Location, run_id: str, contents: Mapping[str, bytes]) -> bool:
    """Commit a bundle, unless one is committed there already.

    Args:
        path: The bundle's folder; its parents are created if they are missing.
        run_id: The run of the bundle.
        contents: Content by file name.

    Returns:
        Whether this call committed it.
    """
    sums: dict[str, object] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    describe = partial(_manifest_content, run_id, sums)
    return storage_of(path).commit_folder(path, contents, MANIFEST, describe)


def exists(path: Location) -> bool:
    """Return whether a bundle was committed there; it may be damaged."""
    return storage_of(path).is_committed(path, MANIFEST)


def leftovers(path: Location) -> list[Location]:
    """Return the folders of attempts in a store that failed or lost more than a day ago."""
    committed = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        committed = json_text.parse(files.read(path / MANIFEST)).get("attempt")
    others = [n for n in files.names(path) if _ATTEMPT.fullmatch(n) and n != committed]
    return [path / name for name in others if files.is_old(path / name)]


def forget(folder: Location, run_ids: Iterable[str]) -> None:
    """Delete the entries of a folder whose names are, or begin with, the ids of these runs.

    Hidden entries, such as locks, are included. If the folder is then empty, it is also deleted.
    """
    gone = set(run_ids)
    for name in files.names(folder):
        if name.lstrip(".").split("-")[0] in gone:
            files.remove(folder / name)
    storage_of(folder).remove_if_empty(folder)


def read(path: Location, run_id: str, names: Iterable[str]) -> dict[str, bytes]:
    """Return the content of the named files after comparing it with the manifest.

    Raises:
        UserError: The bundle is missing, incomplete or damaged; the message names the file.
    """
    manifest = _manifest(path, run_id)
    paths = [manifest.folder / name for name in names]
    contents: dict[str, bytes] = {}
    for file, content in zip(paths, files.read_many(paths), strict=True):
        if isinstance(content, OSError):
            raise UserError(f"{file} cannot be read ({content})") from content
        manifest.compare(file, hashlib.sha256(content).hexdigest())
        contents[file.name] = content
    return contents


def check(path: Location, run_id: str, names: Iterable[str]) -> None:
    """Compare the named files with the manifest, without keeping them in memory.

    Raises:
        UserError: The bundle is missing, incomplete or damaged; the message names the file.
    """
    manifest = _manifest(path, run_id)
    for name in names:
        try:
            found = storage_of(path).digest(manifest.folder / name)
        except OSError as error:
            raise UserError(f"{manifest.folder / name} cannot be read ({error})") from error
        manifest.compare(manifest.folder / name, found)


def checksums(path: Location, run_id: str) -> dict[str, str]:
    """Return the SHA-256 of each file by name, from the manifest of a bundle.

    Raises:
        UserError: The manifest is missing or damaged, or belongs to another run.
    """
    return _manifest(path, run_id).sums


def _manifest_content(run_id: str, sums: Mapping[str, object], attempt: str | None) -> bytes:
    """Return the content of a manifest, with its own SHA-256."""
    content: dict[str, object] = {"run_id": run_id, "files": sums}
    if attempt is not None:
        content["attempt"] = attempt
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content, indent=1).encode()


@dataclass(frozen=True)
class _Manifest:
    folder: Location  # of the files
    sums: dict[str, str]

    def compare(self, path: Location, found: str) -> None:
        if found != self.sums.get(path.name):
            raise UserError(f"{path} is damaged: its SHA-256 differs")


def _manifest(path: Location, run_id: str) -> _Manifest:
    try:
        content = files.read(path / MANIFEST)
        manifest = json_text.parse(content)
        sums = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        attempt = manifest.get("attempt")
        former = set(manifest) == {"run_id", "files"}  # of a version without a SHA-256 of its own
        whole = _manifest_content(manifest["run_id"], manifest["files"], attempt)
        if not former and content != whole:
            raise ValueError("its own SHA-256 differs")
        if manifest["run_id"] != run_id:
            raise UserError(f"{path / MANIFEST} is the manifest of run {manifest['run_id']}")
        if attempt is not None and not _ATTEMPT.fullmatch(attempt):
            raise ValueError("no complete attempt found")
    except FileNotFoundError:
        raise UserError(f"{path} is not complete: {MANIFEST} is missing") from None
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / MANIFEST} is damaged ({error})") from error
    return _Manifest(path if attempt is None else path / attempt, sums)
