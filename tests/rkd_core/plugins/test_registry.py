"""Registries: names, refusals, entry points, and code that is kept in a results folder."""

import sys

import pytest

from rkd_core import methods, plugins
from rkd_core.errors import UserError
from rkd_core.models import registry as architectures
from rkd_core.models import resolve_reference
from rkd_core.plugins import networks
from tests.extensions.state import forget

HEAD = "from rkd_core.plugins import datasets, networks\n"


@pytest.fixture(autouse=True)
def own_state(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    forget(monkeypatch)


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEAD + text)
    return str(path)


def test_a_file_registers_names(tmp_path):
    place = write(tmp_path / "a.py", "@networks.register('small')\ndef f(num_classes): ...\n")
    plugins.load([place])
    assert networks.names() == ["small"]
    assert networks.reference("small") == f"{place}:f"
    assert resolve_reference("small") == f"{place}:f"
    assert resolve_reference("small(width=3)") == f"{place}:f(width=3)"
    for other in ("resnet20", "a:b", "unknown", "timm:x(small=3)"):
        assert resolve_reference(other) == other


def test_a_module_registers_names(tmp_path, monkeypatch):
    write(tmp_path / "of_test" / "__init__.py", "from of_test import parts\n")
    write(tmp_path / "of_test" / "parts.py", "@networks.register('part')\ndef f(): ...\n")
    plugins.load(["of_test"])
    plugins.load(["of_test"])  # imported already
    assert networks.reference("part") == "of_test.parts:f"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a.py registers nothing: decorate"),
        (
            "@networks.register('resnet20')\ndef f(): ...",
            r"a.py line 2: the network 'resnet20' is bu",
        ),
        ("@datasets.register('digits-lt')\ndef f(): ...", r"the data set 'digits-lt' is built in"),
        ("networks.register('x')(3)", r"a.py line 2: the network 'x': int is not a class or"),
        ("datasets.register('x')(3)", r"the data set 'x': int is not a function that returns data"),
        ("@networks.register\ndef f(): ...", r"use @networks.register\('name'\)"),
        ("@networks.register('a b')\ndef f(): ...", r"'a b' is not a name"),
        (
            "networks.register('x')(f := len)\nnetworks.register('x')(max)",
            r"twice: in .*a.py line 2 and",
        ),
        ("import numpyy", r"a.py line 2: ModuleNotFoundError: No module named 'numpyy'"),
        ("def f(:", r"a.py line 2: "),
    ],
)
def test_refusals_are_one_line(tmp_path, text, message):
    assert architectures.REGISTRY
    with pytest.raises(UserError, match=message):
        plugins.load([write(tmp_path / "a.py", text + "\n")])


def test_a_name_of_two_files_is_refused(tmp_path):
    places = [
        write(tmp_path / n / "a.py", "@networks.register('x')\ndef f(): ...\n")
        for n in ("one", "two")
    ]
    with pytest.raises(UserError, match=r"twice: in .*one/a.py line 2 and in .*two/a.py line 2"):
        plugins.load(places)


def test_an_edited_file_is_imported_again(tmp_path):
    place = write(tmp_path / "a.py", "@networks.register('x')\ndef f(): return 1\n")
    plugins.load([place])
    write(tmp_path / "a.py", "@networks.register('x')\ndef f(): return 2\n")
    plugins.load([place])
    assert networks.get("x")() == 2


def test_an_object_inside_a_function_has_no_reference(tmp_path):
    place = write(
        tmp_path / "a.py",
        "def g():\n    @networks.register('inner')\n    def f(): ...\ng()\n",
    )
    plugins.load([place])
    with pytest.raises(UserError, match=r"a.py line 3: the network 'inner' is not a class or fun"):
        networks.reference("inner")


def package(folder, name, group, value):
    """Write an installed package with an entry point."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[robust_distillation.{group}]\n{value}\n")


def test_entry_points_are_found_by_name(tmp_path):
    package(tmp_path, "pkg_of_test", "networks", "wide = pkg_of_test:make")
    (tmp_path / "pkg_of_test.py").write_text("def make(num_classes): ...\n")
    sys.path.append(str(tmp_path))
    assert networks.listed() == {"wide": "pkg_of_test:make"}
    assert networks.reference("wide") == "pkg_of_test:make"
    assert networks.get("narrow") is None
    package(tmp_path, "other_of_test", "networks", "wide = pkg_of_test:other")
    plugins.networks._entries.clear()
    with pytest.raises(UserError, match="'wide' is an entry point of several packages"):
        networks.get("wide")


METHOD = """
from rkd_core.methods.common.protocol import Method
from method_pkg_of_test.options import DEFAULT


class Mine(Method):
    weight: float = DEFAULT
"""


def test_code_of_an_entry_point_is_kept_and_found_without_the_package(tmp_path, monkeypatch):
    installed, out = tmp_path / "site", tmp_path / "out"
    package(installed, "method_pkg", "methods", "mine_of_test = method_pkg_of_test.parts:Mine")
    (installed / "method_pkg_of_test").mkdir()
    for name, text in (("__init__", ""), ("options", "DEFAULT = 7\n"), ("parts", METHOD)):
        (installed / "method_pkg_of_test" / f"{name}.py").write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    digest = methods.digest("mine_of_test")
    assert digest is not None
    assert methods.digest("kd") is None
    plugins.keep(out, [(plugins.methods, "mine_of_test")])

    sys.path.remove(str(installed))
    for name in [name for name in sys.modules if name.startswith("method_pkg_of_test")]:
        del sys.modules[name]
    forget(monkeypatch)
    with pytest.raises(UserError, match=r"the code of the method 'mine_of_test' .* is not here"):
        methods.find("mine_of_test", digest)
    plugins.search(out)
    assert plugins.methods.known() == ["mine_of_test"]
    assert methods.create("mine_of_test", {}, digest).weight == 7
    assert methods.digest("mine_of_test") == digest


def test_a_damaged_list_of_names_is_refused(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "names.json").write_text("{")
    with pytest.raises(UserError, match=r"names.json is damaged"):
        plugins.search(tmp_path)
