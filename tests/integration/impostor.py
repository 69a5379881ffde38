"""Impostor: something that speaks HTTPS and is no API server: it answers HTML, or not at all."""

from __future__ import annotations

import ssl
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from tests.controlplane.access import kubeconfig_text
from tests.controlplane.certificates import Authority

LOOPBACK = "127.0.0.1"
PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>"


class Impostor:
    """Listens on a loopback port while used as a context manager; paths under /slow get no answer until its end.

    Attributes:
        url: Without a path.
    """

    def __init__(self) -> None:
        self._authority = Authority.new("impostor")
        self._over = threading.Event()
        self._server = ThreadingHTTPServer((LOOPBACK, 0), self._handler())
        self._server.socket = self._tls().wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="impostor")
        self.url = f"https://{LOOPBACK}:{self._server.server_port}"

    def kubeconfig(self, server: str) -> str:
        """A sound kubeconfig that leads to a URL, with the impostor's CA."""
        return kubeconfig_text("impostor", server, self._authority.certificate_pem, {"token": "made-up"})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _tls(self) -> ssl.SSLContext:
        pair = self._authority.server(LOOPBACK)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "server.pem")
            path.write_text(pair.certificate_pem + pair.key_pem)
            context.load_cert_chain(path)
        return context

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        over = self._over

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/slow"):
                    over.wait()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(PAGE)))
                self.end_headers()
                self.wfile.write(PAGE)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its base class calls it so
                """Say nothing."""

        return Handler
