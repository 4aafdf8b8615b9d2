"""An S3 server on loopback: moto's, over HTTP, with the atomicity of the real one."""

import contextlib
import socket
import threading

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class Quiet(MotoRequestHandler):
    def log(self, *_):
        pass


class Server:
    """``after`` may be set to a function of (method, path) that is called when a request is done.

    Where it returns True, the connection is cut instead of the answer sent.
    """

    def __init__(self):
        self.after = lambda method, path: False
        self.requests = []
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()  # moto looks, then puts; the real one does both at once
        self._server = make_server("127.0.0.1", 0, self._answer, True, request_handler=Quiet)
        self.address = f"127.0.0.1:{self._server.server_port}"

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.requests.append((method, path))
            answer = list(self._app(environ, start_response))
        if self.after(method, path):
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError
        return answer

    @contextlib.contextmanager
    def running(self):
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
