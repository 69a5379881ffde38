"""A watch on the tenants: one request to the API server, and every change as it is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import ssl
import threading
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.controlplane.access import ClusterAccess

from tenantry.api.resources import TENANTS

CONNECT_SECONDS: Final = 10.0

Event = dict[str, Any]


class TenantWatch:
    """Changes of all Tenants, those that are there to begin with. Use it as a context manager."""

    def __init__(self, management: ClusterAccess) -> None:
        address = urlsplit(management.server)
        context = ssl.create_default_context(cadata=management.ca_pem)
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, timeout=CONNECT_SECONDS, context=context
        )
        self._token = str(json.loads(management.kubeconfig)["users"][0]["user"]["token"])
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True, name="tenant-watch")
        self._answer: http.client.HTTPResponse

    def next(self, seconds: float) -> Event | None:
        """The next event, or None if none comes in that time.

        Raises:
            RuntimeError: the server ended the watch.
        """
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return None
        if event is None:
            raise RuntimeError("the API server of the management cluster ended the watch on tenants")
        return event

    def __enter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        self._connection.request("GET", f"{TENANTS.path()}?watch=true", headers=headers)
        self._answer = self._connection.getresponse()
        if self._answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the watch on tenants is refused: {self._answer.status} {self._answer.read(2000)!r}")
        self._connection.sock.settimeout(None)  # silence is no failure: nothing has changed
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(CONNECT_SECONDS)  # what it reads from must not be closed under its hands
        self._connection.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            for line in self._answer:
                self._events.put(json.loads(line))
        self._events.put(None)
