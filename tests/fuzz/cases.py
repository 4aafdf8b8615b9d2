"""Helpers of the fuzz tests: counted cases, the form of a refusal, edits of bytes and of JSON.

The default run takes the first twentieth of the cases, ``pytest -m fuzz`` all of them; both run the
same cases every time. ``FUZZ_TIMES=20 pytest -m fuzz`` runs twenty times as many, with fresh seeds;
so does ``pytest -m chaos tests/fuzz``.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import os
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rkd_core.errors import UserError

T = TypeVar("T")

TIMES = int(os.environ.get("FUZZ_TIMES", "0"))
"""Factor by which ``-m fuzz`` multiplies the cases, with fresh seeds; 0 for the fixed cases."""

COUNT: Counter[str] = Counter()
"""Cases run, by kind: ``fuzz`` for hypothesis's, ``changes`` for single bytes and truncations."""

REFUSED: Any = object()
"""Returned by ``attempt`` for input that is refused."""


def quick_and_whole(cases: int) -> pytest.MarkDecorator:
    """Parametrize a test with a number of ``cases`` for the default run and for ``-m fuzz``."""
    whole = cases * max(TIMES, 1)
    return pytest.mark.parametrize(
        "cases",
        [
            pytest.param(-(-cases // 20), id="quick"),
            pytest.param(whole, id="whole", marks=[pytest.mark.fuzz, pytest.mark.timeout(3600)]),
        ],
    )


def fuzz(cases: int, **strategies: st.SearchStrategy[Any]) -> Callable[..., Any]:
    """Make a test of that many drawn cases, each of which is counted and may take a minute."""
    common = settings(
        derandomize=TIMES == 0,
        database=None,
        deadline=timedelta(seconds=60),
        phases=[Phase.generate],  # an edit or two are short enough to be read unshrunk
        report_multiple_bugs=False,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def counted(*arguments: Any, **named: Any) -> None:
            COUNT["fuzz"] += 1
            test(*arguments, **named)

        def run(cases: int, **fixtures: Any) -> None:
            given(**strategies)(settings(common, max_examples=cases)(counted))(**fixtures)

        parameters = inspect.signature(test).parameters
        fixtures = [p for name, p in parameters.items() if name not in strategies]
        number = inspect.Parameter("cases", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        run.__signature__ = inspect.Signature([number, *fixtures])  # type: ignore[attr-defined]
        run.__name__, run.__module__, run.__doc__ = test.__name__, test.__module__, test.__doc__
        return quick_and_whole(cases)(run)

    return decorate


def attempt(read: Callable[[], T], *named: object) -> T:
    """Return what is read, or ``REFUSED`` if it is refused in one line with one of the names."""
    try:
        return read()
    except UserError as error:
        check_line(str(error), *named)
        return REFUSED


def check_line(line: str, *named: object) -> None:
    """Assert that a message is one printable line of moderate length that names the culprit."""
    assert line.isprintable(), line
    assert len(line) <= 2000, len(line)
    assert any(str(name) in line for name in named), (line, named)


# ---- Bytes ------------------------------------------------------------------------------------

_NUMBERS = [b"\xff" * 4, b"\x00" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\xff" * 8]
_Edit = tuple[str, int, int, bytes]


@functools.cache
def edits(most: int = 3) -> st.SearchStrategy[list[_Edit]]:
    """Return a strategy for lists of edits, as ``edited`` takes them."""
    what = st.sampled_from(
        ["flip", "flip", "set", "insert", "delete", "truncate", "double", "zero", "overwrite"]
    )
    payload = st.one_of(st.sampled_from(_NUMBERS), st.binary(min_size=1, max_size=9))
    edit = st.tuples(what, st.integers(0, 2**20), st.integers(0, 2**12), payload)
    return st.lists(edit, min_size=1, max_size=most)


def edited(content: bytes, changes: list[_Edit]) -> bytes:
    """Return the content after edits; a place counts from the start or, if odd, from the end."""
    data = bytearray(content)
    for what, place, number, payload in changes:
        size = max(len(data), 1)
        at = (place // 2) % size if place % 2 else size - 1 - (place // 2) % size
        length = number % 64 + 1
        if what == "flip" and data:
            data[at] ^= 1 << (number % 8)
        elif what == "set" and data:
            data[at] = number % 256
        elif what == "insert":
            data[at:at] = payload
        elif what == "delete":
            del data[at : at + length]
        elif what == "truncate":
            del data[at:]
        elif what == "double":
            data[at:at] = data[at : at + length]
        elif what == "zero":
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif what == "overwrite":
            data[at : at + len(payload)] = payload
    return bytes(data)


# ---- JSON -------------------------------------------------------------------------------------

_DEEP = "@deep@"
_INTEGERS = [0, -1, 1, 2**31, 2**63 - 1, 2**63, 10**30, -(10**30), 10**400]
_FLOATS = [0.0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), -float("inf")]
nasty_numbers = st.sampled_from([*_INTEGERS, *_FLOATS])
nasty_text = st.one_of(
    st.sampled_from(["", "\n", "a\nb", "\x1b[2J", "\ud800", "\u2028", "../..", "/", "x" * 3000]),
    st.text(max_size=8),
)
nasty = st.one_of(
    nasty_numbers,
    nasty_text,
    st.sampled_from([None, True, False, _DEEP, "@digits@"]),
    st.sampled_from([[], {}, [None], [[]], {"": None}, [0] * 3, ["a"]]),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
_Change = tuple[str, int, Any]
json_changes = st.lists(
    st.tuples(
        st.sampled_from(
            ["replace", "like", "like", "delete", "add", "rename", "wrap", "swap", "twice"]
        ),
        st.integers(0, 999),
        nasty,
    ),
    min_size=1,
    max_size=3,
)
json_forms = st.sampled_from(["plain"] * 6 + ["indented", "utf-16", "bom", "latin1", "trailing"])


def changed_json(valid: Any, changes: list[_Change], form: str = "plain") -> bytes:
    """Return valid JSON after changes of its values, keys and shape, in some encoding."""
    value = copy.deepcopy(valid)
    repeated: list[str] = []
    for what, number, new in changes:
        value = _change(value, what, number, copy.deepcopy(new), repeated)
    text = json.dumps(value, indent=1 if form == "indented" else None)
    text = text.replace(json.dumps(_DEEP), "[" * 100_000 + "]" * 100_000)
    text = text.replace('"@digits@"', "9" * 5000)
    for key in repeated:
        text = text.replace("{", "{" + json.dumps(key) + ": 0, ", 1)
    if form == "utf-16":
        return text.encode("utf-16")
    if form == "bom":
        return b"\xef\xbb\xbf" + text.encode()
    if form == "latin1":
        return json.dumps(value, ensure_ascii=False).encode("latin1", "replace")
    return text.encode() + (b"\n{}" if form == "trailing" else b"")


def _change(value: Any, what: str, number: int, new: Any, repeated: list[str]) -> Any:
    places = list(_places(value))
    holder, key = places[number % len(places)]
    if holder is None:
        return new if what == "replace" else [value] if what == "wrap" else value
    if what == "replace":
        holder[key] = new
    elif what == "like":  # of the same kind, so that it is not refused for its type
        kind = type(holder[key])
        alike = {int: _INTEGERS, float: _FLOATS}.get(kind, [new])
        holder[key] = alike[number % len(alike)]
    elif what == "delete":
        del holder[key]
    elif what == "wrap":
        holder[key] = [holder[key]]
    elif what == "add" and isinstance(holder, dict):
        holder[str(new)[:20]] = new
    elif what == "rename" and isinstance(holder, dict):
        holder[str(new)[:20]] = holder.pop(key)
    elif what == "swap":
        another = [k for h, k in places if h is holder][-1]
        holder[key], holder[another] = holder[another], holder[key]
    elif what == "twice" and isinstance(value, dict) and isinstance(key, str):
        repeated.append(key)
    return value


def _places(value: Any, holder: Any = None, key: Any = None) -> Any:
    yield holder, key
    if isinstance(value, dict):
        for name in list(value):
            yield from _places(value[name], value, name)
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from _places(value[index], value, index)
