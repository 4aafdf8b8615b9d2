"""Code of plug-ins in this process and in results folders, and the names that it stands for.

``plugins/<digest>/code.json`` in a results folder holds code. ``plugins/names.json`` holds the
digest of each name that was used last, by registry, and under ``entry_points`` the attributes of
objects that their modules do not register themselves, by digest.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rkd_core.errors import UserError

if TYPE_CHECKING:
    from rkd_core.plugins.code import Code
    from rkd_core.storage.files import Location

__all__ = ["Use", "attribute", "code_of", "collect", "digest", "names", "search", "store"]

_NAMES, _ATTRIBUTES = "names.json", "entry_points"

_codes: dict[str, Code] = {}
"""Code by digest."""
_kept: dict[Location, Mapping[str, Any]] = {}
"""Content of ``names.json`` by results folder."""


class Use(NamedTuple):
    """An object whose code is kept."""

    group: str
    name: str
    digest: str
    attribute: str | None
    """Name of the object in its module if the module does not register it."""


def search(out: Location, *, again: bool = True) -> None:
    """Find the code of plug-ins in a results folder, too, if it is not in this process.

    Args:
        out: The results folder.
        again: Whether to read the list of names there if it was read before.

    Raises:
        UserError: The list of names there is damaged.
    """
    from rkd_core.plugins import code
    from rkd_core.storage import files
    from rkd_core.text import json_text

    if out in _kept and not again:
        return
    path = out / code.PLUGINS / _NAMES
    try:
        _kept[out] = json_text.parse_object(files.read(path))
    except OSError:  # there are none
        _kept.setdefault(out, {})
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def names(group: str) -> set[str]:
    """Return the names of a registry in the results folders that were searched."""
    return {name for found in _kept.values() for name in found.get(group, {})}


def digest(group: str, name: str) -> str | None:
    """Return the digest of the code that a name stood for last; None if it is in no folder."""
    found = (one.get(group, {}) for one in _kept.values())
    return next((str(one[name]) for one in found if name in one), None)


def attribute(digest: str, name: str) -> str | None:
    """Return the name of an object in its module; None if the module registers it."""
    found = (one.get(_ATTRIBUTES, {}).get(digest, {}) for one in _kept.values())
    return next((str(one[name]) for one in found if name in one), None)


def collect(place: str) -> str:
    """Collect the code of a module or file, and return its digest."""
    from rkd_core.plugins import code

    collected = code.collect(f"{place}:")
    _codes[collected.digest] = collected
    return collected.digest


def code_of(digest: str) -> Code | None:
    """Return the code with this digest, of this process or of a results folder."""
    from rkd_core.plugins import code

    for out in _kept:
        if digest not in _codes:
            try:
                _codes[digest] = code.load(out, digest, code.PLUGINS)
            except (UserError, OSError):
                continue
    return _codes.get(digest)


def store(out: Location, used: Iterable[Use]) -> None:
    """Store code in a results folder, where workers and later commands find it.

    Raises:
        OSError: It cannot be written.
    """
    from rkd_core.plugins import code
    from rkd_core.storage import files

    search(out)
    listed = copy.deepcopy(dict(_kept[out]))
    for one in used:
        found = code_of(one.digest)
        if found is not None:
            code.keep(out, one.digest, found, code.PLUGINS)
        listed.setdefault(one.group, {})[one.name] = one.digest
        if one.attribute is not None:
            own = listed.setdefault(_ATTRIBUTES, {}).setdefault(one.digest, {})
            own[one.name] = one.attribute
    if listed != _kept[out]:
        content = json.dumps(listed, indent=1, sort_keys=True)
        files.replace_file(out / code.PLUGINS / _NAMES, content.encode())
        _kept[out] = listed
