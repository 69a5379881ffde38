"""What a pod shows without being run: a node whose kubelet gives its logs, and a server that is its metrics."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from tests.controlplane.access import ClusterAccess
from tests.controlplane.processes import LOOPBACK
from tests.integration.acting import Api, manifest
from tests.integration.node import NODES
from tests.integration.port_forward import kubelet_context

LogOf = Callable[[str, bool], str | None]
"""Given the container and whether the previous one is meant: its log; None where there was none."""
NODE: Final = "logging-node"


class PodMetrics:
    """A server at an address of this machine that API servers take for a pod's: they refuse loopback."""

    def __init__(self, text_of: Callable[[], str]) -> None:
        self.address = _own_address()
        self._server = ThreadingHTTPServer((self.address, 0), _metrics_handler(text_of))
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="pod-metrics")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _own_address() -> str:
    """The one that this machine would use to the outside; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def _metrics_handler(text_of: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(text_of().encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server calls it so
            """Nothing: standard error is the tests'."""

    return Handler


class LoggingNode:
    """A node whose kubelet answers `/containerLogs/...` over TLS, as an API server asks for them."""

    def __init__(self, access: ClusterAccess, log_of: LogOf) -> None:
        self._api = Api(access.kubeconfig)
        self._server = ThreadingHTTPServer((LOOPBACK, 0), _handler(log_of))
        self._server.socket = kubelet_context().wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="pod-logs")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._api.create(NODES, manifest(NODES, NODE), dry=False).status == 201
        status = {
            "addresses": [{"type": "InternalIP", "address": LOOPBACK}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        answer = self._api.patch(NODES.path(name=NODE, subresource="status"), {"status": status}, dry=False)
        assert answer.status == 200, answer.body
        return self

    def __exit__(self, *_: object) -> None:
        self._api.delete(NODES.path(name=NODE), dry=False)
        self._api.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(log_of: LogOf) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            container = asked.path.rpartition("/")[2]
            text = log_of(container, parse_qs(asked.query).get("previous") == ["true"])
            self.send_response(200 if text is not None else 400)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write((text or "previous terminated container not found").encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server calls it so
            """Nothing: standard error is the tests'."""

    return Handler
