"""Bundles: a folder of files with a manifest of their checksums, of one run.

``manifest.json`` holds the size and SHA-256 of every other file, and a SHA-256 of its own. A folder
appears complete or not at all, and is checked against its manifest before it is used. In an object
store, where no folder can be renamed, the files of each attempt lie in a folder of their own, and
the one manifest that can be created says which: nobody reads the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rkd_core.errors import UserError
from rkd_core.storage import files as storage
from rkd_core.storage.files import is_local, sync, write_synced
from rkd_core.text import json_text

__all__ = ["MANIFEST", "check", "checksums", "exists", "forget", "leftovers", "read", "write"]

MANIFEST = "manifest.json"
"""Lies in a bundle beside its files."""
_ATTEMPT = re.compile(r"[0-9a-f]{32}")


def write(path: Path, run_id: str, files: Mapping[str, bytes]) -> bool:
    """Commit ``path`` with these files, put-if-absent; the one that is there already wins.

    Args:
        path: The folder to appear; the one that holds it is made if it is missing.
        run_id: The run that it is of.
        files: Content by name.

    Returns:
        Whether this call committed it.
    """
    sums: dict[str, object] = {
        name: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()}
        for name, b in files.items()
    }
    if is_local(path):
        return _rename(path, files, _described(run_id, sums))
    if exists(path):
        return False
    attempt = uuid.uuid4().hex
    for name, content in files.items():
        storage.replace_file(path / attempt / name, content)
    committed = storage.create(path / MANIFEST, _described(run_id, sums, attempt))
    if not committed:
        storage.remove(path / attempt)
    return committed


def _rename(path: Path, files: Mapping[str, bytes], manifest: bytes) -> bool:
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    hidden.mkdir(parents=True)
    try:
        for name, content in (*files.items(), (MANIFEST, manifest)):
            write_synced(hidden / name, content)
        sync(hidden)
        try:
            hidden.rename(path)  # fails where a folder of that name holds files
        except OSError:
            if not (path / MANIFEST).exists():
                raise
            return False
        sync(path.parent)
        return True
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def exists(path: Path) -> bool:
    """Whether a bundle was committed there; it may be damaged."""
    return path.is_dir() if is_local(path) else storage.exists(path / MANIFEST)


def leftovers(path: Path) -> list[Path]:
    """Files in a store of attempts at this bundle that were cut off, or lost, over a day ago."""
    if is_local(path):
        return []
    committed = None
    with contextlib.suppress(OSError, ValueError, AttributeError):
        committed = json_text.parse(storage.read(path / MANIFEST)).get("attempt")
    others = [n for n in storage.names(path) if _ATTEMPT.fullmatch(n) and n != committed]
    return [path / name for name in others if storage.is_old(path / name)]


def forget(folder: Path, run_ids: Iterable[str]) -> None:
    """Delete what a folder holds of these runs: names that are, or begin with, their ids.

    So do hidden ones, such as locks. A folder that is then empty goes too.
    """
    gone = set(run_ids)
    for name in storage.names(folder):
        if name.lstrip(".").split("-")[0] in gone:
            storage.remove(folder / name)
    storage.remove_if_empty(folder)  # else there are others'


def read(path: Path, run_id: str, names: Iterable[str]) -> dict[str, bytes]:
    """Content of the named files, each as the manifest says.

    Raises:
        UserError: The bundle is missing, incomplete or damaged; the line names the file.
    """
    manifest = _manifest(path, run_id)
    paths = [manifest.folder / name for name in names]
    contents: dict[str, bytes] = {}
    for file, content in zip(paths, storage.read_many(paths), strict=True):
        if isinstance(content, OSError):
            raise UserError(f"{file} cannot be read ({content})") from content
        manifest.compare(file, hashlib.sha256(content).hexdigest())
        contents[file.name] = content
    return contents


def check(path: Path, run_id: str, names: Iterable[str]) -> None:
    """Compare the named files with the manifest, without keeping them in memory.

    Raises:
        UserError: The bundle is missing, incomplete or damaged; the line names the file.
    """
    manifest = _manifest(path, run_id)
    for name in names:
        try:
            found = storage.digest(manifest.folder / name)
        except OSError as error:
            raise UserError(f"{manifest.folder / name} cannot be read ({error})") from error
        manifest.compare(manifest.folder / name, found)


def checksums(path: Path, run_id: str) -> dict[str, str]:
    """SHA-256 by file name, as the manifest of a bundle has it.

    Raises:
        UserError: The manifest is missing or damaged, or is that of another run.
    """
    return _manifest(path, run_id).sums


def _described(run_id: str, files: Mapping[str, object], attempt: str | None = None) -> bytes:
    """A manifest; no byte of it can change unnoticed."""
    content: dict[str, object] = {"run_id": run_id, "files": files}
    if attempt is not None:
        content["attempt"] = attempt
    content["sha256"] = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps(content, indent=1).encode()


@dataclass(frozen=True)
class _Manifest:
    folder: Path
    """Where the files are."""
    sums: dict[str, str]

    def compare(self, path: Path, found: str) -> None:
        if found != self.sums.get(path.name):
            raise UserError(f"{path} is damaged: its SHA-256 differs")


def _manifest(path: Path, run_id: str) -> _Manifest:
    try:
        content = storage.read(path / MANIFEST)
        manifest = json_text.parse(content)
        sums = {str(name): str(entry["sha256"]) for name, entry in manifest["files"].items()}
        attempt = manifest.get("attempt")
        former = set(manifest) == {"run_id", "files"}  # of before they had a sum of their own
        if not former and content != _described(manifest["run_id"], manifest["files"], attempt):
            raise ValueError("its own SHA-256 differs")
        if manifest["run_id"] != run_id:
            raise UserError(f"{path / MANIFEST} is the manifest of run {manifest['run_id']}")
        if attempt is not None and not _ATTEMPT.fullmatch(attempt):
            raise ValueError("its attempt is none")
    except FileNotFoundError:
        raise UserError(f"{path} is not complete: {MANIFEST} is missing") from None
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path / MANIFEST} is damaged ({error})") from error
    return _Manifest(path if attempt is None else path / attempt, sums)
