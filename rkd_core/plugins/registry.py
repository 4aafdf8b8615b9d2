"""Registries of the objects that plug-ins add by name, one for each kind.

The code of methods and objectives is part of what they define, so its digest enters run ids; that
of a criterion enters the selection. Results folders keep the code, see ``rkd_core.plugins.kept``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from rkd_core.errors import UserError
from rkd_core.plugins import kept, objects

if TYPE_CHECKING:
    from rkd_core.storage.files import Location

__all__ = [
    "Registry",
    "criteria",
    "datasets",
    "keep",
    "load",
    "methods",
    "metrics",
    "networks",
    "objectives",
    "search_strategies",
]

T = TypeVar("T")

_GROUP = "robust_distillation"
_NAME = re.compile(r"[^\W\d][\w.-]*")


@dataclass(frozen=True)
class Entry:
    """A registered object and the place of its registration."""

    target: Any
    module: str
    file: str | None
    line: int = 0
    attribute: str | None = None
    """Name of the object in its module, for an entry point."""

    @property
    def where(self) -> str:
        """Place of the registration, for messages."""
        return f"{self.file or self.module} line {self.line}" if self.line else self.module

    @cached_property
    def place(self) -> str:
        """Module or file that registers the object."""
        return objects.place_of(self.module, self.file)

    @cached_property
    def digest(self) -> str:
        """Digest of the code that defines the object; the code is found by this digest."""
        return kept.collect(self.place)


class Registry:
    """Objects of one kind by name: those that plug-ins register, and those of entry points.

    Args:
        kind: The kind, for messages.
        group: Name of the registry, in the group of its entry points.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._entries: dict[str, Entry] = {}
        self._copies: dict[tuple[str, str], Entry] = {}
        """Objects of stored code, by name and digest."""
        self._built_in: Callable[[], Iterable[str]] = tuple
        self._check: Callable[[str, Any], object] = lambda name, target: None

    def built_in(
        self,
        names: Callable[[], Iterable[str]],
        check: Callable[[str, Any], object] | None = None,
    ) -> None:
        """Declare the names that plug-ins cannot take, and the check of an object.

        Args:
            names: Function that returns the names.
            check: Function of name and object that raises ``UserError`` for another kind.
        """
        self._built_in, self._check = names, check or self._check

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a class or function under a name.

        Raises:
            UserError: The name is not valid, built in, or registered already, or the object is of
                another kind.
        """
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            shown = repr(name) if isinstance(name, str) else "the decorator without a name"
            raise UserError(
                f"{shown} is not a name: use @{self.group}.register('name') with letters, digits, "
                "_, - and ."
            )
        frame = sys._getframe(1)
        module, file = frame.f_globals.get("__name__", ""), frame.f_globals.get("__file__")

        def add(target: T) -> T:
            self._add(name, Entry(target, module, file, frame.f_lineno))
            return target

        return add

    def names(self) -> list[str]:
        """Return the names that plug-ins registered in this process, sorted."""
        return sorted(self._entries)

    def known(self) -> list[str]:
        """Return the names that plug-ins registered, here or in a results folder, sorted."""
        return sorted(kept.names(self.group) | {*self._entries})

    def listed(self) -> dict[str, str]:
        """Return the names of plug-ins and of entry points, with the first lines of docstrings."""
        from importlib.metadata import entry_points

        found = {one.name: one.value for one in entry_points(group=f"{_GROUP}.{self.group}")}
        return found | {name: _summary(one.target) for name, one in self._entries.items()}

    def get(self, name: str, digest: str | None = None) -> Any:
        """Return the object of a name; None if there is none.

        Args:
            name: The name.
            digest: Digest of the code that defines the object; None for that of a plug-in, of an
                entry point, or that was used last in a results folder, in this order.

        Raises:
            UserError: The code with this digest is not there, or its import fails.
        """
        if digest is not None:
            return self._copy(name, digest).target
        entry = self._find(name)
        if entry is not None:
            return entry.target
        last = kept.digest(self.group, name)
        return None if last is None else self._copy(name, last).target

    def digest(self, name: str) -> str | None:
        """Return the digest of the code that defines an object; None if there is no such name.

        Raises:
            UserError: The code cannot be imported from a copy of its files.
        """
        entry = self._find(name)
        if entry is None:
            return kept.digest(self.group, name)
        self._copy(name, entry.digest)
        return entry.digest

    def reference(self, name: str) -> str | None:
        """Return ``FILE.py:NAME`` or ``package.module:NAME`` of an object; None if unknown."""
        entry = self._find(name)
        if entry is None:
            return None
        target = entry.target
        if getattr(target, "__module__", None) != entry.module:
            return objects.reference_to(target)
        own, name_there = sys.modules.get(entry.module), getattr(target, "__qualname__", "")
        if own is None or getattr(own, name_there, None) is not target:
            raise UserError(
                f"{entry.where}: the {self.kind} {name!r} is not a class or function at the top of "
                "its module"
            )
        return f"{entry.place}:{name_there}"

    def attribute(self, name: str) -> str | None:
        """Return the name of an entry point's object in its module; None for other objects."""
        entry = self._entries.get(name)
        return None if entry is None else entry.attribute

    def _add(self, name: str, entry: Entry) -> None:
        if (digest := objects.digest_of_copy()) is not None:
            self._copies[name, digest] = self._checked(name, entry)
            return
        self._check_new(name, entry)
        self._entries[name] = entry

    def _check_new(self, name: str, entry: Entry) -> None:
        if name in self._built_in():
            raise UserError(f"the {self.kind} {name!r} is built in: choose another name")
        known = self._entries.get(name)
        if known is not None and (known.file, known.line) != (entry.file, entry.line):
            raise UserError(
                f"the {self.kind} {name!r} is registered twice: in {known.where} and in "
                f"{entry.where}"
            )
        self._checked(name, entry)

    def _checked(self, name: str, entry: Entry) -> Entry:
        try:
            self._check(name, entry.target)
        except UserError as error:
            raise UserError(f"the {self.kind} {name!r}: {error}") from error
        return entry

    def _find(self, name: str) -> Entry | None:
        """Return the entry of a plug-in, or of an entry point, which is loaded."""
        if name not in self._entries and name not in self._built_in():
            entry = self._entry_point(name)
            if entry is not None:
                self._entries[name] = self._checked(name, entry)
        return self._entries.get(name)

    def _entry_point(self, name: str) -> Entry | None:
        if _NAME.fullmatch(name) is None:
            return None
        from importlib.metadata import entry_points

        found = [*dict.fromkeys(entry_points(group=f"{_GROUP}.{self.group}", name=name))]
        if not found:
            return None
        if len(found) > 1:
            raise UserError(
                f"the {self.kind} {name!r} is an entry point of several packages: "
                f"{' and '.join(one.value for one in found)}"
            )
        module, _, attribute = found[0].value.partition(":")
        target = objects.load_object(f"{module}:{attribute}")
        if name in self._entries:  # it registers itself, too
            return self._entries.pop(name)
        return Entry(target, module, sys.modules[module].__file__, attribute=attribute)

    def _copy(self, name: str, digest: str) -> Entry:
        """Return the object that stored code registers.

        Raises:
            UserError: The code is not there, fails, or registers no such object.
        """
        key = name, digest
        if key in self._copies:
            return self._copies[key]
        known, code = self._entries.get(name), kept.code_of(digest)
        if code is None:
            raise UserError(
                f"the code of the {self.kind} {name!r} ({digest[:12]}) is not here: give the "
                "results folder that holds it, or the unchanged file as a plug-in"
            )
        try:
            with code.importable():
                module = objects.load_module(code.module)
        except UserError as error:
            if known is None or known.digest != digest:
                raise
            if known.place.endswith(".py"):
                raise UserError(
                    f"{known.place} cannot be imported from a copy of it and of the Python files "
                    f"beside it that it imports, which every worker loads: "
                    f"{code.in_place(str(error))}"
                ) from error
            self._copies[key] = known  # an installed package that needs other files, too
        else:
            self._add_entry_point(name, digest, module)
        if key not in self._copies:
            raise UserError(f"{code.module} ({digest[:12]}) registers no {self.kind} {name!r}")
        return self._copies[key]

    def _add_entry_point(self, name: str, digest: str, module: ModuleType) -> None:
        """Add an object that its module does not register itself."""
        known = self._entries.get(name)
        attribute = None if known is None else known.attribute
        attribute = attribute or kept.attribute(digest, name)
        if (name, digest) not in self._copies and attribute is not None:
            target = getattr(module, attribute)
            entry = Entry(target, module.__name__, None, attribute=attribute)
            self._copies[name, digest] = self._checked(name, entry)


networks = Registry("network", "networks")
datasets = Registry("data set", "datasets")
methods = Registry("method", "methods")
objectives = Registry("objective", "objectives")
criteria = Registry("criterion", "criteria")
metrics = Registry("metric", "metrics")
search_strategies = Registry("search strategy", "search_strategies")

_REGISTRIES = (networks, datasets, methods, objectives, criteria, metrics, search_strategies)


def load(places: Iterable[str]) -> None:
    """Import the modules and files of plug-ins.

    Raises:
        UserError: A module does not exist, cannot be imported, or registers nothing.
    """
    for place in places:
        before = [dict(registry._entries) for registry in _REGISTRIES]
        module = objects.load_module(place)
        added = before != [registry._entries for registry in _REGISTRIES]
        own = (one.module for registry in _REGISTRIES for one in registry._entries.values())
        if not added and not any(f"{name}.".startswith(f"{module.__name__}.") for name in own):
            raise UserError(
                f"{place} registers nothing: decorate a class or function with "
                "@networks.register('name') of rkd_core.plugins, or with that of another kind"
            )


def keep(out: Location, used: Iterable[tuple[Registry, str]]) -> None:
    """Store the code of plug-ins in a results folder, where workers and later commands find it.

    Args:
        out: The results folder.
        used: Registries and names.

    Raises:
        OSError: It cannot be written.
    """
    kept.store(
        out,
        [
            kept.Use(registry.group, name, digest, registry.attribute(name))
            for registry, name in used
            if (digest := registry.digest(name)) is not None
        ],
    )


def _summary(target: Any) -> str:
    return (getattr(target, "__doc__", None) or "").strip().partition("\n")[0].removesuffix(".")
