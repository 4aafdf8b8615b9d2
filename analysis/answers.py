"""The last answer of a results folder, so that what has not changed is not computed again.

A hidden file keeps a key of all that the answer rests on: the content of every record, the plan,
the options, and the program with the libraries it uses. Beside the key stand the SHA-256 of the
files that were written, and the text that was printed. Where the key differs, or a file is missing
or has changed, the answer is computed again.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import analysis
import rkd_core
from rkd_core import files, json_text, records

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.rules import Rule

__all__ = ["Answer", "key_of", "load", "save", "screen_of"]

NAME = ".answer.json"

_LIBRARIES = ("jinja2", "matplotlib", "numpy", "plotly", "pyarrow", "rich", "scipy")
_PROGRAM = (".py", ".html", ".css", ".js")
_SCREENS = 4  # texts that are kept, for consoles that differ


@dataclass(frozen=True)
class Answer:
    """What was computed last.

    Attributes:
        key: Of what it rests on; empty where there is no answer.
        files: SHA-256 of the files that were written, by name.
        screens: The text that was printed, by ``screen_of`` the console.
    """

    key: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    screens: Mapping[str, str] = field(default_factory=dict)

    def stands(self, results: Path, names: Iterable[str]) -> bool:
        """Return whether the files of these names are those that were written."""
        return all(self.files.get(name, "-") == _sum(results / name) for name in names)

    def wrote(self, results: Path, names: Iterable[str]) -> Answer:
        """Return the answer with the files of these names as they are now."""
        sums = {name: _sum(results / name) for name in names}
        return replace(self, files={**self.files, **sums})

    def printed(self, screen: str, text: str) -> Answer:
        """Return the answer with the text that was printed on a console, in place of the oldest."""
        kept = list(self.screens.items())[1 - _SCREENS :]
        return replace(self, screens={**dict(kept), screen: text})


def key_of(
    results: Path, rule: Rule, run_ids: Iterable[str] | None, family: str | None, *others: object
) -> str:
    """Return a digest of all that an answer rests on.

    Args:
        results: The results folder.
        rule: Of the selection.
        run_ids: The runs to compare; None for those of the plan, which is the same as to name them.
        family: To compare instead; None for no other.
        others: Whatever else was asked for; its ``repr`` says all of it.
    """
    plan, of_record = _plan(results), records.digests(results / "records")
    if run_ids is None and family is None and isinstance(plan, dict):
        run_ids = plan.get("run_ids")
    try:
        compared = None if run_ids is None else sorted({*run_ids})
    except TypeError:  # of a plan that whoever reads it next refuses
        compared = None
    groups = "" if rule.groups_file is None else _sum(rule.groups_file)
    asked = repr((rule, family, others))
    rests_on = of_record, plan, compared, groups, asked, _program()
    return hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()


def screen_of(console: Console, results: Path) -> str:
    """Return what the text on a console depends on besides ``key_of``."""
    shape = console.width, console.encoding, console.color_system, console.no_color
    return repr((*shape, console.is_terminal, console.soft_wrap, str(results)))


def load(results: Path) -> Answer:
    """Return the last answer of a results folder; an empty one where there is none."""
    try:
        found = json_text.parse_object(files.read(results / NAME))
        answer = Answer(found["key"], found["files"], found["screens"])
        texts = {**answer.files, **answer.screens}
        whole = _seal(answer) == found["seal"] and all(isinstance(t, str) for t in texts.values())
    except (OSError, ValueError, KeyError, TypeError):
        return Answer()
    return answer if whole else Answer()


def save(results: Path, answer: Answer) -> None:
    """Keep an answer, unless the folder cannot be written."""
    content = asdict(answer) | {"seal": _seal(answer)}
    try:
        files.replace_file(results / NAME, json.dumps(content).encode())
    except OSError:
        return


def _seal(answer: Answer) -> str:
    return hashlib.sha256(json.dumps(asdict(answer), sort_keys=True).encode()).hexdigest()


def _sum(path: Path) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        return files.digest(path)
    except OSError:
        return ""


def _plan(results: Path) -> Any:
    """Return the plan without the time at which the same command wrote it again."""
    try:
        content = files.read(results / "plan.json")
    except OSError:  # there is none, or whoever reads it next says why
        return None
    try:
        return json_text.parse_object(content) | {"written_at": None}
    except ValueError:
        return hashlib.sha256(content).hexdigest()


@cache
def _program() -> dict[str, str]:
    """Return the versions of all that computes an answer; of this program, its text."""
    digest = hashlib.sha256()
    for room, pattern in ((analysis, "**/*"), (rkd_core, "*")):
        folder = Path(str(room.__file__)).parent
        for path in sorted(p for p in folder.glob(pattern) if p.suffix in _PROGRAM):
            digest.update(f"{path.relative_to(folder)}\n".encode() + path.read_bytes())
    found = {"program": digest.hexdigest(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # such as plotly, where no report is written
            found[name] = ""
    return found
