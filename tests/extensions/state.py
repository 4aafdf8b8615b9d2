"""State of the registries of plug-ins."""

import sys

from rkd_core.plugins import kept, registry


def forget(monkeypatch):
    """Bring the registries into the state of a new process."""
    for name in [name for name in sys.modules if name.startswith("_of_user_")]:
        del sys.modules[name]
    for one in registry._REGISTRIES:
        monkeypatch.setattr(one, "_entries", {})
        monkeypatch.setattr(one, "_copies", {})
    monkeypatch.setattr(kept, "_kept", {})
    monkeypatch.setattr(kept, "_codes", {})
