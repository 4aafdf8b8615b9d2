"""Objects of users, named by references."""

import sys

import pytest

from rkd_core.errors import UserError
from rkd_core.plugins import call, is_reference, load_object, reference_to


@pytest.fixture(autouse=True)
def own_path(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["a.py:b", "/x y/a.py:b", "a:b", "a.b.c:d"])
def test_references(text):
    assert is_reference(text)


@pytest.mark.parametrize(
    "text", ["a", "a.py", "a:b:c", "s3://x/y", "a.py:1", "hf:a/b", "./a:b", ":b"]
)
def test_other_texts(text):
    assert not is_reference(text)


def test_a_file_may_import_its_neighbors(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "beside_it.py").write_text("value = 7\n")
    (tmp_path / "inner" / "mine.py").write_text("from beside_it import value\n")
    assert load_object("inner/mine.py:value") == 7
    assert load_object(f"{tmp_path}/inner/mine.py:value") == 7


def test_a_module_of_the_current_folder(tmp_path):
    (tmp_path / "some_module_here.py").write_text("class Thing: pass\n")
    assert load_object("some_module_here:Thing").__name__ == "Thing"
    assert load_object("collections:OrderedDict").__name__ == "OrderedDict"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nowhere.py:f", "nowhere.py does not exist"),
        ("no_such_module:f", "there is no module 'no_such_module'"),
        ("good.py:wrong", "unknown name in good.py 'wrong': choose one of right"),
        ("syntax.py:f", r"syntax.py line 2: "),
        ("fails.py:f", r"fails.py line 3: ZeroDivisionError: division by zero"),
        ("needs.py:f", r"needs.py line 1: ModuleNotFoundError: No module named 'absent_one'"),
        ("no reference", "is not of the form"),
    ],
)
def test_errors_name_the_line(tmp_path, reference, message):
    (tmp_path / "good.py").write_text("right = 1\n")
    (tmp_path / "syntax.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "fails.py").write_text("def g():\n\n    1 / 0\ng()\n")
    (tmp_path / "needs.py").write_text("import absent_one\n")
    with pytest.raises(UserError, match=message) as refused:
        load_object(reference)
    assert "\n" not in str(refused.value)


def test_a_function_that_raises(tmp_path):
    (tmp_path / "raises.py").write_text("def f():\n    raise KeyError('x')\n")
    with pytest.raises(UserError, match=r"raises.py:f raises: .*raises.py line 2: KeyError: 'x'"):
        call(load_object("raises.py:f"), "raises.py:f")


def test_references_to_objects(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "mine.py").write_text("class Thing: pass\ndef make(): return Thing\n")
    thing = load_object("inner/mine.py:Thing")
    assert reference_to(thing) == f"{tmp_path}/inner/mine.py:Thing"
    assert load_object(reference_to(thing)) is thing
    assert reference_to(call) == "rkd_core.plugins.objects:call"
    local = type("Local", (), {"__module__": "__main__", "__qualname__": "Local"})
    for wrong in (local, lambda: 3):
        with pytest.raises(UserError, match=r"%%writefile nets\.py"):
            reference_to(wrong)
