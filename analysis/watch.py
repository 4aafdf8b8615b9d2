"""Local server of a sweep's report, which follows the records while the sweep runs.

    python -m analysis.watch results/cifar10

The page polls for a newer version every few seconds and updates in place. Nothing is written, and
nothing is computed without a request.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from analysis.selection.rule_options import add_options, rule_of
from rkd_core.storage.files import Location
from rkd_core.text import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.runs.loading import Runs
    from analysis.selection.outcome import Outcome

    Assess = Callable[[Runs], Outcome]

__all__ = ["Pages", "main", "serving"]

_ADDRESS = "127.0.0.1"
_PAUSE = 2.0
"""Minimum number of seconds between two checks of the folder."""
_IDLE = 0.8
"""Minimum share of time not spent on rendering, however many records arrive."""


@dataclass(frozen=True)
class Page:
    """A page, with a version that changes with its content."""

    content: bytes
    version: str


class Pages:
    """The newest report of a results folder, rendered on request.

    Args:
        results: The folder; it need not exist yet.
        assess: Function such as ``Rule.assess``; None for the default rule.
    """

    def __init__(self, results: Location, assess: Assess | None = None) -> None:
        self._results, self._assess = results, assess
        self._lock = threading.Lock()
        self._page: Page | None = None
        self._not_before = 0.0

    def newest(self) -> Page:
        """Return the page of the current records or, within a pause, the previous page."""
        with self._lock:
            began = time.monotonic()
            if self._page is None or began >= self._not_before:
                version = self._look()
                if self._page is None or version != self._page.version:
                    self._page = Page(self._render(version).encode(), version)
                spent = time.monotonic() - began
                self._not_before = began + max(_PAUSE, spent / (1 - _IDLE))
            return self._page

    def _look(self) -> str:
        """Return a digest that changes when the records or the plan do."""
        from rkd_core.storage import files

        records = files.identities(self._results / "records", recent=True)
        seen = records, files.identities(self._results, recent=True).get("plan.json")
        return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]

    def _render(self, version: str) -> str:
        from analysis.report.page import render, waiting
        from analysis.runs.loading import load
        from analysis.selection.outcome import assess
        from rkd_core.errors import UserError

        try:
            runs = load(self._results)
            return render(runs, (self._assess or assess)(runs), self._results, version)
        except (UserError, OSError) as error:  # nothing to report yet
            return waiting(str(UserError(str(error))))


class _Handler(BaseHTTPRequestHandler):
    """Handler of two fixed paths; a requested path never becomes a file name."""

    pages: Pages
    timeout = 30

    def do_GET(self) -> None:
        """Answer requests whose host is this machine's own address (against DNS rebinding)."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{_ADDRESS}:{port}", f"localhost:{port}"):
            self._answer(403, "text/plain", b"this is for the same machine alone\n")
        elif self.path == "/":
            self._answer(200, "text/html", self.pages.newest().content)
        elif self.path == "/version":
            self._answer(200, "text/plain", self.pages.newest().version.encode())
        else:
            self._answer(404, "text/plain", b"there is only /\n")

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has disconnected
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing, since the terminal belongs to the sweep."""


@contextlib.contextmanager
def serving(results: Location, assess: Assess | None = None, port: int = 0) -> Iterator[str]:
    """Serve in a thread, and yield the address to open.

    Args:
        results: The results folder.
        assess: Function such as ``Rule.assess``; None for the default rule.
        port: Port on the loopback interface; 0 for any free one.

    Raises:
        UserError: The port cannot be used.
    """
    from rkd_core.errors import UserError

    handler = type("Handler", (_Handler,), {"pages": Pages(results, assess)})
    try:
        server = ThreadingHTTPServer((_ADDRESS, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"port {port} cannot be served: {error}; give another --port") from error
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="watch", daemon=True)
    thread.start()
    try:
        yield f"http://{_ADDRESS}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main(arguments: Sequence[str] | None = None, program: str = "python -m analysis.watch") -> int:
    """Run the command; return 2, with one line on standard error, if the input is invalid."""
    terminal.prepare(own_process=arguments is None)
    parser = argparse.ArgumentParser(
        prog=program,
        description="Serve the report of a sweep while it runs, to this machine alone.",
    )
    parser.add_argument("results", help="results of a sweep: a folder, s3:// or gs://")
    add_options(parser)
    parser.add_argument(
        "--port", type=int, default=0, metavar="P", help="port (default: any that is free)"
    )
    options = parser.parse_args(arguments)

    from rkd_core.errors import UserError
    from rkd_core.storage.files import location

    try:
        with serving(location(options.results), rule_of(options).assess, options.port) as address:
            print(f"Open {address} (Ctrl-C ends)", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    except (UserError, OSError) as error:
        print(f"error: {UserError(str(error))}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
