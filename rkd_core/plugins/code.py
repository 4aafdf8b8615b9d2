"""Source code of users' networks and plug-ins: collection, digest, storage, loading.

``networks/<digest>/code.json`` in a results folder, a bundle, holds the Python files of a network:
the module that defines it and the modules beside it that it imports. ``plugins/`` holds those of
plug-ins. Workers on every machine, and later commands, load them from there, which runs this code.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import hashlib
import importlib
import io
import json
import shutil
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rkd_core.errors import UserError, first_line
from rkd_core.plugins import objects
from rkd_core.storage import bundles, files
from rkd_core.storage.files import Location
from rkd_core.text import json_text

__all__ = ["FILE", "FOLDER", "PLUGINS", "Code", "collect", "keep", "load"]

FOLDER, PLUGINS, FILE = "networks", "plugins", "code.json"
LARGEST = 2**20
"""Maximum size of the collected files in bytes."""

_OWN = ("rkd_core", "sweeps", "analysis")


@dataclass(frozen=True)
class Code:
    """Python files of a network or plug-in.

    Attributes:
        module: Module that defines it, such as ``nets`` or ``package.nets``.
        files: Text of each file by its path relative to the common folder, with ``/``.
        root: Common folder that they were collected from; None if they are stored ones.
    """

    module: str
    files: dict[str, str]
    root: Path | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the tokens of all files; comments and line breaks do not change it."""
        content = {path: _tokens(text) for path, text in self.files.items()}
        text = json.dumps([self.module, content], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def names(self) -> set[str]:
        """Top-level names of the modules."""
        return {Path(path).parts[0].removesuffix(".py") for path in self.files}

    @contextlib.contextmanager
    def importable(self) -> Iterator[None]:
        """Let imports find these files rather than others of the same names.

        Modules of other code with the same names are put back afterwards.
        """
        others = _taken(self.names)
        sys.modules.update(self._modules)
        sys.path.insert(0, str(self._folder))
        importlib.invalidate_caches()
        try:
            with objects.copied(self.digest):
                yield
        finally:
            sys.path.remove(str(self._folder))
            self._modules.update(_taken(self.names))
            sys.modules.update(self._modules | others)

    def get(self, name: str) -> Any:
        """Import the module and return its attribute.

        Raises:
            UserError: The import fails, or there is no such attribute.
        """
        with self.importable():
            return objects.load_object(f"{self.module}:{name}")

    def in_place(self, message: str) -> str:
        """Return an error message with the files in the place of their copies."""
        return message if self.root is None else message.replace(str(self._folder), str(self.root))

    @cached_property
    def _modules(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _folder(self) -> Path:
        """Folder of this process with the files."""
        folder = Path(tempfile.mkdtemp(prefix="rkd-network-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        return folder


def collect(target: str) -> Code:
    """Return the files of ``FILE.py:NAME``, or of ``package.module:NAME`` that is imported.

    Raises:
        UserError: A file is missing, is not Python code or has the name of a module of Python or of
            this project, or all files together are too large.
    """
    place = target.rpartition(":")[0]
    if place.endswith(".py"):
        path = Path(place).expanduser().resolve()
        root, module = path.parent, path.stem
    else:
        path, module = _file_of(place), place
        depth = module.count(".") + (path.name == "__init__.py")
        root = path.parents[depth]
    installed = {"site-packages", "dist-packages"} & set(root.parts)
    top = module.split(".")[0]
    found: dict[Path, str] = {}
    waiting = [path, *_packages(root, path)]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found[one] = _text(one)
        for name in _imports(found[one], one.relative_to(root)):
            if not installed or name.split(".")[0] == top:
                waiting += _modules(root, name)
    code = Code(module, {p.relative_to(root).as_posix(): found[p] for p in sorted(found)}, root)
    reserved = sorted(code.names & ({*sys.stdlib_module_names, *_OWN}))
    if reserved:
        raise UserError(
            f"{root / reserved[0]}.py has the name of another module that is needed: rename it"
        )
    size = sum(len(text.encode()) for text in code.files.values())
    if size > LARGEST:
        raise UserError(
            f"{place} imports {size / 1e6:.1f} MB of Python files beside it, more than "
            f"{LARGEST / 1e6:.1f} MB, which are copied into the results folder: put it into "
            "a file that imports less"
        )
    return code


def keep(out: Location, digest: str, code: Code, folder: str = FOLDER) -> None:
    """Store code in a results folder, unless it is there already.

    Args:
        out: The results folder.
        digest: Digest of the network, or of the code itself.
        code: The code.
        folder: Folder in the results folder.

    Raises:
        OSError: It cannot be written.
    """
    path = out / folder / digest
    try:
        bundles.check(path, digest, (FILE,))
    except UserError:  # missing or damaged
        files.remove(path)
        content = json.dumps({"module": code.module, "files": code.files}, indent=1)
        bundles.write(path, digest, {FILE: content.encode()})


def load(out: Location, digest: str, folder: str = FOLDER) -> Code:
    """Return code from a results folder.

    Raises:
        UserError: It is missing or damaged.
    """
    content = bundles.read(out / folder / digest, digest, (FILE,))[FILE]
    found = json_text.parse_object(content)
    return Code(str(found["module"]), dict(found["files"]))


def _text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        ast.parse(text)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}") from error
    except SyntaxError as error:
        raise UserError(f"{path} line {error.lineno}: {error.msg}") from error
    return text


def _taken(names: set[str]) -> dict[str, Any]:
    """Remove all modules with these top-level names from ``sys.modules``; return them."""
    found = [name for name in sys.modules if name.split(".")[0] in names]
    return {name: sys.modules.pop(name) for name in found}


def _file_of(module: str) -> Path:
    file = getattr(sys.modules[module], "__file__", None)
    if file is None or not file.endswith(".py"):
        raise UserError(f"{module} is not a Python file, so its code cannot be recorded")
    return Path(file).resolve()


def _packages(root: Path, path: Path) -> list[Path]:
    """Return the ``__init__.py`` files of the packages that contain a file."""
    folders = [folder for folder in path.parents if root in folder.parents]
    return [one for one in (folder / "__init__.py" for folder in folders) if one.is_file()]


def _modules(root: Path, name: str) -> list[Path]:
    """Return the files that an import reads below a folder; none if the module is elsewhere."""
    place = root.joinpath(*name.split("."))
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            return [path, *_packages(root, path)]
    return []


def _imports(text: str, path: Path) -> Iterator[str]:
    """Yield the modules that a file may import, at any place in it."""
    package = path.parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)


def _tokens(text: str) -> list[str]:
    """Return the tokens of a Python file without comments, line breaks and encodings.

    Formatted strings are one token each, as they were before Python 3.12.
    """
    left_out = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
    lines, found, depth, begin = text.splitlines(keepends=True), [], 0, (0, 0)
    for token in tokenize.tokenize(io.BytesIO(text.encode()).readline):
        kind = tokenize.tok_name[token.type]
        if kind in ("FSTRING_START", "TSTRING_START"):
            begin = begin if depth else token.start
            depth += 1
        elif kind in ("FSTRING_END", "TSTRING_END"):
            depth -= 1
            if not depth:
                found.append(_between(lines, begin, token.end))
        elif not depth and token.type not in left_out:
            named = kind in ("INDENT", "DEDENT", "NEWLINE")
            found.append(kind if named else token.string)
    return found


def _between(lines: list[str], begin: tuple[int, int], end: tuple[int, int]) -> str:
    (first, left), (last, right) = begin, end
    if first == last:
        return lines[first - 1][left:right]
    middle = lines[first : last - 1]
    return "".join([lines[first - 1][left:], *middle, lines[last - 1][:right]])
