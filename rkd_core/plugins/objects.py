"""Import of users' modules, and of the objects in them, which ``FILE.py:NAME`` names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from rkd_core.errors import UserError, unknown_name

__all__ = [
    "call",
    "copied",
    "digest_of_copy",
    "is_reference",
    "load_module",
    "load_object",
    "place_of",
    "reference_to",
]

T = TypeVar("T")

_REFERENCE = re.compile(r"(?P<place>[^:]+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MODULE_PREFIX = "_of_user_"
_CONTENT = "__content__"
_copies: list[str] = []
"""Digests of the stored code whose modules are being imported, the innermost last."""


def is_reference(text: str) -> bool:
    """Return whether a text has the form of a reference to an object."""
    return _REFERENCE.fullmatch(text) is not None


def load_object(reference: str) -> Any:
    """Import the object that a reference names.

    The folder of a file, or the current folder for a module, is searched for the modules that it
    imports.

    Raises:
        UserError: There is no such file, module or name, or its import fails; the message has the
            line of the user's code.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(f"{reference!r} is not of the form FILE.py:NAME or package.module:NAME")
    place, name = match["place"], match["name"]
    module = load_module(place)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [one for one in vars(module) if not one.startswith("_")]
        raise unknown_name(f"name in {place}", name, public) from None


def load_module(place: str) -> ModuleType:
    """Import ``FILE.py`` or ``package.module``; a file that has changed is imported again.

    Raises:
        UserError: There is no such file or module, or its import fails; the message has the line of
            the user's code.
    """
    if place.endswith(".py"):
        return _from_file(Path(place).expanduser())
    if _MODULE.fullmatch(place) is None:
        raise UserError(f"{place!r} is not of the form FILE.py or package.module")
    return _module(place)


def place_of(module: str, file: str | None) -> str:
    """Return the text from which ``load_module`` imports a module: a name or a path.

    Raises:
        UserError: It is a notebook or the program that runs, which no other process can import.
    """
    if module == "__main__" or file is None:
        raise UserError(
            f"{module} cannot be imported by other processes: use a module of its own (in a "
            "notebook, with %%writefile mine.py)"
        )
    unnamed = getattr(sys.modules.get(module), "__spec__", None) is None
    return file if module.startswith(_MODULE_PREFIX) or unnamed else module


@contextlib.contextmanager
def copied(digest: str) -> Iterator[None]:
    """Attribute registrations in this context to the stored code with this digest."""
    _copies.append(digest)
    try:
        yield
    finally:
        _copies.pop()


def digest_of_copy() -> str | None:
    """Return the digest of the stored code that is being imported; None for a user's own module."""
    return _copies[-1] if _copies else None


def reference_to(target: Any) -> str:
    """Return the reference to a class or function of a module.

    Raises:
        UserError: It is defined in a notebook or in the program that runs, so that no other process
            can import it.
    """
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", "")
    found = sys.modules.get(module or "")
    file = getattr(found, "__file__", None)
    if module == "__main__" or file is None or not name.isidentifier():
        raise UserError(
            f"{name or type(target).__name__} cannot be imported by other processes: define it at "
            "the top of a module of its own (in a notebook, with %%writefile nets.py) and give it "
            "as nets.py:NAME, or import it"
        )
    return f"{place_of(str(module), file)}:{name}"


def call(function: Callable[[], T], reference: str) -> T:
    """Call a function of a user.

    Raises:
        UserError: The function raises; the message has the line of the user's code.
    """
    try:
        return function()
    except Exception as error:
        raise _failed(f"{reference} raises", error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"{path} does not exist" if not path.exists() else f"{path} is a folder")
    path = path.resolve()
    name = _MODULE_PREFIX + path.stem
    known, content = sys.modules.get(name), path.read_bytes()
    if known is not None and (known.__file__, _content(known)) == (str(path), content):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    setattr(module, _CONTENT, content)
    _search(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise _failed(f"{path} cannot be imported", error) from error
    return module


def _content(module: ModuleType) -> bytes | None:
    """Return the content of the file that a module was imported from."""
    return getattr(module, _CONTENT, None)


def _module(name: str) -> ModuleType:
    _search(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"there is no module {error.name!r} here or installed") from error
        raise _failed(f"{name} cannot be imported", error) from error
    except Exception as error:
        raise _failed(f"{name} cannot be imported", error) from error


def _is_library(filename: str) -> bool:
    """Return whether a file is of this project or of PyTorch, and not a user's."""
    folders = [Path(__file__).parents[1]]
    if "torch" in sys.modules:
        folders.append(Path(str(sys.modules["torch"].__file__)).parent)
    return any(folder in Path(filename).parents for folder in folders)


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _failed(what: str, error: Exception) -> UserError:
    """Return the error for an exception in a user's code, with its line."""
    if isinstance(error, SyntaxError):
        return UserError(f"{what}: {error.filename} line {error.lineno}: {error.msg}")
    stack = traceback.extract_tb(error.__traceback__)
    frames = [f for f in stack if "<" not in f.filename and not _is_library(f.filename)]
    last = frames[-1] if frames else None
    where = "" if last is None else f"{last.filename} line {last.lineno}: "
    if isinstance(error, UserError):  # of a registration
        return UserError(f"{where}{error}" if last is not None else f"{what}: {error}")
    return UserError(f"{what}: {where}{type(error).__name__}: {error}")
