"""Source code of users' networks: which files belong to it, and what changes its digest."""

import sys

import pytest

from rkd_core import plugins
from rkd_core.errors import UserError
from rkd_core.plugins import code

NETS = """from torch import nn
from layers import Block  # a module beside this one
import os.path


def tiny(num_classes):
    from parts.more import WIDTH
    return nn.Sequential(Block(), nn.Flatten(), nn.LazyLinear(num_classes))
"""
FILES = {
    "nets.py": NETS,
    "layers.py": "from torch import nn\nBlock = nn.ReLU\n",
    "parts/__init__.py": "",
    "parts/more.py": "from . import widths\nWIDTH = widths.WIDTH\n",
    "parts/widths.py": "WIDTH = 3\n",
    "unused.py": "raise SystemExit\n",
}


def write(folder, **changes):
    for name, text in (FILES | {k: v for k, v in changes.items() if "." in k}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return f"{folder / 'nets.py'}:tiny"


def collected(folder, **changes):
    return code.collect(write(folder, **changes))


def test_files_are_the_imported_ones_beside_it(tmp_path):
    found = collected(tmp_path)
    assert found.module == "nets"
    assert set(found.files) == set(FILES) - {"unused.py"}


def test_a_digest_is_of_tokens(tmp_path):
    digest = collected(tmp_path / "a").digest
    moved = collected(tmp_path / "somewhere" / "else")
    assert moved.digest == digest
    reformatted = NETS.replace("# a module", "# one\n\n# more").replace(
        "(num_classes)", "( num_classes )"
    )
    assert collected(tmp_path / "b", **{"nets.py": reformatted}).digest == digest
    assert collected(tmp_path / "c", **{"unused.py": "1"}).digest == digest
    for name, text in (
        ("nets.py", NETS.replace("nn.Flatten()", "nn.Flatten(1)")),
        ("layers.py", FILES["layers.py"].replace("ReLU", "GELU")),
        ("parts/widths.py", "WIDTH = 4\n"),
    ):
        assert collected(tmp_path / name.replace("/", ""), **{name: text}).digest != digest


def test_formatted_strings_and_nesting_count(tmp_path):
    texts = ['x = f"a{1}b"\n', 'x = f"a{2}b"\n', "if a:\n    b\nc\n", "if a:\n    b\n    c\n"]
    digests = {code.Code("nets", {"nets.py": text}).digest for text in texts}
    assert len(digests) == len(texts)
    assert code._tokens('x = f"a{1:{2}}b" + f"c"\n')[:3] == ["x", "=", 'f"a{1:{2}}b"']


def test_stored_code_is_loaded_beside_another_of_the_same_name(tmp_path):
    one = collected(tmp_path / "one")
    two = collected(tmp_path / "two", **{"parts/widths.py": "WIDTH = 4\n"})
    for found in (one, two):
        code.keep(tmp_path, found.digest, found)
        code.keep(tmp_path, found.digest, found)
    before = {name: sys.modules.get(name) for name in ("nets", "layers", "parts")}
    loaded = [code.load(tmp_path, found.digest) for found in (one, two)]
    functions = [found.get("tiny") for found in loaded]
    widths = []
    for found, function in zip(loaded, functions, strict=True):
        with found.importable():
            function(3)
            widths.append(sys.modules["parts.more"].WIDTH)
    assert widths == [3, 4]
    assert all(sys.modules.get(name) is module for name, module in before.items() if module)


def test_names_of_python_are_refused(tmp_path):
    (tmp_path / "random.py").write_text("x = 1\n")
    target = write(
        tmp_path, **{"layers.py": "import random\nfrom torch import nn\nBlock = nn.ReLU\n"}
    )
    with pytest.raises(UserError, match=r"random\.py has the name of another module"):
        code.collect(target)


def test_large_code_is_refused(tmp_path):
    target = write(tmp_path, **{"layers.py": "x = 1\n" + "# " + "a" * 2**20 + "\n"})
    with pytest.raises(UserError, match=r"more than 1\.0 MB"):
        code.collect(target)


def test_a_package_is_collected_from_its_top(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "mine_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from .layers import Net\n")
    (package / "layers.py").write_text("class Net: pass\n")
    plugins.load_object("mine_of_test.nets:Net")
    found = code.collect("mine_of_test.nets:Net")
    assert sorted(found.files) == [f"mine_of_test/{n}.py" for n in ("__init__", "layers", "nets")]
    assert found.get("Net").__name__ == "Net"
