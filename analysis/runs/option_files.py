"""Files that options of the selection name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rkd_core.errors import UserError

__all__ = ["read_option_file"]


def read_option_file(
    flag: str, path: Path, endings: Sequence[str] | None = None
) -> tuple[str, str, bytes]:
    """Read a file that an option names.

    Args:
        flag: The option, such as ``--cost-matrix``.
        path: Its value; ``~`` stands for the home folder.
        endings: Endings that the file may have; None for any.

    Returns:
        Option and path for messages, the ending in lower case, such as ``.csv``, and the content.

    Raises:
        UserError: The file has another ending, or cannot be read.
    """
    path = path.expanduser()
    what, ending = f"{flag} {path}", path.suffix.lower()
    if endings is not None and ending not in endings:
        raise UserError(f"{what} must end in {', '.join(endings[:-1])} or {endings[-1]}")
    try:
        return what, ending, path.read_bytes()
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror or error}") from None
