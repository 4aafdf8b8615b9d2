"""Class names from options and files: single names, lists and named groups."""

from __future__ import annotations

import csv
import difflib
import io
import json
import shlex
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.runs.option_files import read_option_file
from rkd_core.errors import UserError, unknown_name

__all__ = ["ClassNames", "chosen_group", "distinct", "read_groups"]

_LISTED = 10
"""Maximum number of names listed in a message."""


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with the label appended to those that several classes share.

    Two classes of ImageNet, for example, are named crane.
    """
    names = tuple(names)
    while len(count := Counter(names)) < len(names):
        names = tuple(f"{n} ({label})" if count[n] > 1 else n for label, n in enumerate(names))
    return names


class ClassNames:
    """Class names in label order, with lookup of a label by its name.

    Spaces at the ends of a name are ignored as long as it matches a single class.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: label for label, name in enumerate(names)}
        self._bare: dict[str, list[int]] = defaultdict(list)
        for label, name in enumerate(names):
            self._bare[name.strip()].append(label)
        self._commas = max((name.count(",") for name in names), default=0)

    def label(self, name: str, option: str) -> int:
        """Return the label of a class.

        Raises:
            UserError: No class, or more than one, has this name.
        """
        found = self._find(name)
        if len(found) == 1:
            return found[0]
        if found:
            several = " or ".join(repr(self.names[label]) for label in found)
            raise UserError(f"{option}: {name!r} is more than one class: say {several}")
        bare = name.strip()
        close = [n for n in self.names if bare in map(str.strip, n.split(","))][:3]  # a synonym
        close = close or difflib.get_close_matches(bare, self.names, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        known = ", ".join(self.names[:_LISTED])
        more = ", ..." if len(self.names) > _LISTED else ""
        raise UserError(f"{option}: no class is named {bare}; {hint}there are {known}{more}")

    def labels(self, text: str, option: str) -> tuple[int, ...]:
        """Return the labels of a comma-separated list of names, which may contain commas.

        Raises:
            UserError: The list cannot be read, or can be read in more than one way.
        """
        pieces = text.split(",")
        # For each end of a piece: the number of readings so far, and where the last name begins.
        ways, begins = [1] + [0] * len(pieces), [0] * (len(pieces) + 1)
        for stop in range(1, len(pieces) + 1):
            for start in range(max(stop - self._commas - 1, 0), stop):
                if ways[start] and self._find(",".join(pieces[start:stop])):
                    ways[stop] += ways[start]
                    begins[stop] = start
        if ways[-1] > 1:
            raise UserError(
                f"{option}: {text!r} can be read as class names in more than one way; "
                f"{self._as_json(option)}"
            )
        if not ways[-1]:
            reached = max(stop for stop, way in enumerate(ways) if way)
            try:
                self.label(pieces[reached], option)
            except UserError as error:
                raise UserError(f"{error}; {self._as_json(option)}") from None
            raise UserError(f"{option}: {text!r} cannot be read; {self._as_json(option)}")
        found, stop = [], len(pieces)
        while stop:
            found.append(self.label(",".join(pieces[begins[stop] : stop]), option))
            stop = begins[stop]
        return tuple(dict.fromkeys(reversed(found)))

    def group(self, texts: Sequence[str], option: str) -> tuple[str, tuple[int, ...]]:
        """Return the name and the labels of a group; each text lists some of its classes.

        Args:
            texts: Texts such as ``NAME=A,B``, or JSON such as ``{"NAME": ["A", "B"]}``.
            option: Name of the option in messages.

        Raises:
            UserError: A text cannot be read, or they name more than one group.
        """
        parts = [self._part(text, option) for text in texts]
        groups = dict.fromkeys(name for name, _ in parts)
        if len(groups) > 1:
            raise UserError(f"{option} names {len(groups)} groups ({', '.join(groups)}); give one")
        labels = dict.fromkeys(label for _, found in parts for label in found)
        return parts[0][0], tuple(labels)

    def _part(self, text: str, option: str) -> tuple[str, tuple[int, ...]]:
        if text.lstrip().startswith("{"):
            try:
                content = json.loads(text)
            except ValueError as error:
                raise UserError(f"{option} is not JSON ({error}): {text}") from None
            if len(content) != 1:
                raise UserError(f"{option} must name one group, not {len(content)}: {text}")
            ((name, members),) = checked(content, option).items()
            return name, tuple(dict.fromkeys(self.label(one, option) for one in members))
        splits = [place for place, letter in enumerate(text) if letter == "="]
        splits = [place for place in splits if text[:place].strip() and text[place + 1 :].strip()]
        if not splits:
            raise UserError(f"{option} must be like animals=cat,dog, not {text}")
        readings, failure = [], None
        for place in splits:
            try:
                readings.append((text[:place], self.labels(text[place + 1 :], option)))
            except UserError as error:
                failure = failure or error
        if len(readings) > 1:
            raise UserError(
                f"{option}: {text!r} can be read in more than one way; {self._as_json(option)}"
            )
        if not readings:
            assert failure is not None
            raise failure
        return readings[0]

    def _find(self, name: str) -> list[int]:
        if name in self._exact:
            return [self._exact[name]]
        return self._bare.get(name.strip(), [])

    def _as_json(self, option: str) -> str:
        example = json.dumps({"NAME": list(self.names[:2])}, ensure_ascii=False)
        return f"write {option} {shlex.quote(example)}, or --groups-file FILE"


def chosen_group(
    names: ClassNames, texts: Sequence[str], path: Path | None
) -> tuple[str, tuple[int, ...]]:
    """Return the name and the labels of the group of ``--group``, perhaps one of a file.

    Args:
        names: Names of the classes.
        texts: Values of ``--group``.
        path: File of ``--groups-file``; None for none.

    Raises:
        UserError: There is no such group, or a class of it is unknown.
    """
    if path is None:
        return names.group(texts, "--group")
    groups, option = read_groups(path), f"--groups-file {path}"
    if len(texts) > 1:
        raise UserError(f"--group names one of the groups of {option}: give it once")
    if not texts and len(groups) > 1:
        some = ", ".join(groups)
        raise UserError(f"{option} has {len(groups)} groups: name one with --group ({some})")
    name = texts[0] if texts else next(iter(groups))
    if name not in groups:
        raise unknown_name(f"group of {option}", name, groups)
    return name, tuple(dict.fromkeys(names.label(member, option) for member in groups[name]))


def read_groups(path: Path) -> dict[str, list[str]]:
    """Read named groups of classes from JSON, TOML, or CSV with columns ``group`` and ``class``.

    Raises:
        UserError: The file cannot be read, or has no groups.
    """
    what, ending, read = read_option_file("--groups-file", path)
    try:
        # Any line ends, as in a text file.
        text = io.TextIOWrapper(io.BytesIO(read), encoding="utf-8-sig").read()
    except UnicodeDecodeError:
        raise UserError(f"{what} is not UTF-8 text") from None
    kind = ending.removeprefix(".")
    try:
        if kind == "csv":
            content: Any = _from_csv(text)
        elif kind == "toml":
            content = tomllib.loads(text)
        else:
            content = json.loads(text)
    except ValueError as error:
        raise UserError(
            f"{what} is not {'TOML' if kind == 'toml' else 'CSV' if kind == 'csv' else 'JSON'} of "
            f"groups ({error}); files end in .json, .toml or .csv"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("groups"), dict) and len(content) == 1:
        content = content["groups"]  # a TOML table
    return checked(content, what)


def checked(content: object, what: str) -> dict[str, list[str]]:
    """Return the groups as lists of names.

    Raises:
        UserError: The content has another form, or a group is empty.
    """
    if not isinstance(content, Mapping) or not content:
        raise UserError(f'{what} must have groups, such as {{"animals": ["cat", "dog"]}}')
    for name, members in content.items():
        if not isinstance(members, list) or not all(isinstance(one, str) for one in members):
            raise UserError(f"{what}: {name} must be a list of class names, as text")
        if not members:
            raise UserError(f"{what}: {name} has no classes")
    return dict(content)


def _from_csv(text: str) -> dict[str, list[str]]:
    rows = csv.DictReader(io.StringIO(text), strict=True, skipinitialspace=True)
    groups: dict[str, list[str]] = {}
    try:
        if not {"group", "class"} <= set(rows.fieldnames or ()):
            raise ValueError("the first line must name the columns group and class")
        for row in rows:
            if not row["group"] or row["class"] is None or None in row:
                raise ValueError(f"line {rows.line_num} must have a group and a class")
            groups.setdefault(row["group"], []).append(row["class"])
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return groups
