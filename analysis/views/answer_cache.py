"""Cache of the last answer of a results folder, so that unchanged results are not recomputed.

A hidden file holds a digest of everything that the answer depends on: the content of every record,
the shifts, the plan, the options, and the versions of the program and its libraries. It also holds
the SHA-256 of each written file and the printed text. If the digest differs, or a file is missing
or has changed, the answer is recomputed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import analysis
import rkd_core
from analysis.runs import image_groups
from analysis.runs.networks import LATENCY
from rkd_core import records
from rkd_core.records import predictions, shifts
from rkd_core.storage import files
from rkd_core.storage.files import Location
from rkd_core.text import json_text

if TYPE_CHECKING:
    from rich.console import Console

    from analysis.selection.rule_options import Rule

__all__ = ["Answer", "key_of", "load", "save", "screen_of"]

NAME = ".answer.json"

_LIBRARIES = ("jinja2", "matplotlib", "numpy", "plotly", "pyarrow", "rich", "scipy")
_PROGRAM = (".py", ".html", ".css", ".js")
_SCREENS = 4  # maximum number of printed texts to keep, one per kind of console


@dataclass(frozen=True)
class Answer:
    """The last answer of a results folder.

    Attributes:
        key: Digest of its inputs; empty if there is no answer.
        files: SHA-256 of the written files, by name.
        screens: Printed texts, by the ``screen_of`` of their console.
    """

    key: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    screens: Mapping[str, str] = field(default_factory=dict)

    def stands(self, results: Location, names: Iterable[str]) -> bool:
        """Return whether the named files are unchanged since they were written."""
        return all(self.files.get(name, "-") == _sum(results / name) for name in names)

    def wrote(self, results: Location, names: Iterable[str]) -> Answer:
        """Return the answer with the current digests of the named files."""
        sums = {name: _sum(results / name) for name in names}
        return replace(self, files={**self.files, **sums})

    def printed(self, screen: str, text: str) -> Answer:
        """Return the answer with the text printed on one console; drop the oldest text."""
        kept = list(self.screens.items())[1 - _SCREENS :]
        return replace(self, screens={**dict(kept), screen: text})


def key_of(
    results: Location,
    rule: Rule,
    run_ids: Iterable[str] | None,
    family: str | None,
    *others: object,
) -> str:
    """Return a digest of everything that an answer depends on.

    Args:
        results: The results folder.
        rule: Selection rule.
        run_ids: Runs to compare; None is equivalent to the runs of the plan.
        family: Family to compare instead of ``run_ids``; None for no family.
        others: All other options; their ``repr`` must describe them fully.
    """
    plan, of_record = _plan(results), records.digests(results / "records")
    of_shifts = files.identities(results / shifts.FOLDER, recent=True)
    predicted = [n for n in files.names(results / predictions.FOLDER / "test") if n[0] != "."]
    if run_ids is None and family is None and isinstance(plan, dict):
        run_ids = plan.get("run_ids")
    try:
        compared = None if run_ids is None else sorted({*run_ids})
    except TypeError:  # a malformed plan, which its next reader rejects
        compared = None
    given = (rule.groups_file, rule.cost_matrix, rule.image_groups)
    groups = ["" if path is None else _sum(path.expanduser()) for path in given]
    groups.append(_sum(results / image_groups.NAME))
    code = [registry.digest(name) for registry, name in rule.plugins()]
    asked = repr((astuple(rule), code, family, others))
    on_val = files.identities(results / predictions.FOLDER / "val", recent=True)
    of_val = [pair for pair in sorted(on_val.items()) if pair[0][0] != "."]
    speeds = _sum(results / LATENCY)
    inputs = of_val, of_record, of_shifts, predicted, speeds, plan, compared, groups, asked
    rests_on = *inputs, _program()
    return hashlib.sha256(json.dumps(rests_on).encode()).hexdigest()


def screen_of(console: Console, results: Location, verbose: bool) -> str:
    """Return everything that the text on a console depends on besides ``key_of``."""
    shape = console.width, console.encoding, console.color_system, console.no_color
    return repr((*shape, console.is_terminal, console.soft_wrap, str(results), verbose))


def load(results: Location) -> Answer:
    """Return the last answer of a results folder, or an empty one."""
    try:
        found = json_text.parse_object(files.read(results / NAME))
        answer = Answer(found["key"], found["files"], found["screens"])
        texts = {**answer.files, **answer.screens}
        whole = _seal(answer) == found["seal"] and all(isinstance(t, str) for t in texts.values())
    except (OSError, ValueError, KeyError, TypeError):
        return Answer()
    return answer if whole else Answer()


def save(results: Location, answer: Answer) -> None:
    """Keep an answer, unless the folder cannot be written."""
    content = asdict(answer) | {"seal": _seal(answer)}
    try:
        files.replace_file(results / NAME, json.dumps(content).encode())
    except OSError:
        return


def _seal(answer: Answer) -> str:
    return hashlib.sha256(json.dumps(asdict(answer), sort_keys=True).encode()).hexdigest()


def _sum(path: Location) -> str:
    """Return the SHA-256 of a file; empty if it cannot be read."""
    try:
        return files.digest(path)
    except OSError:
        return ""


def _plan(results: Location) -> Any:
    """Return the plan without its timestamp, which changes each time the command runs."""
    try:
        content = files.read(results / "plan.json")
    except OSError:  # there is no plan, or its next reader reports the error
        return None
    try:
        return json_text.parse_object(content) | {"written_at": None}
    except ValueError:
        return hashlib.sha256(content).hexdigest()


@cache
def _program() -> dict[str, str]:
    """Return the versions of the libraries that compute an answer, and this program's digest."""
    digest = hashlib.sha256()
    of_core = ("metrics/**/*", "records/**/*", "objectives.py")
    for package, patterns in ((analysis, ("**/*",)), (rkd_core, of_core)):
        root = Path(str(package.__file__)).parent
        sources = (p for pattern in patterns for p in root.glob(pattern))
        for path in sorted(p for p in sources if p.suffix in _PROGRAM):
            digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    found = {"program": digest.hexdigest(), "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # for example plotly, without which no report is written
            found[name] = ""
    return found
