"""The HTTP endpoints for the platform: /healthz, /readyz and /metrics, on one address or on two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from tenantry.runtime.health import Check, report

_SHUTDOWN_SECONDS = 1.0  # a probe takes milliseconds; a connection that is kept alive must not hold up the stop


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host means all interfaces, port 0 a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address | None:
    """`host:port`, `[::1]:port` or `:port`; None for `0` or nothing, which both mean: don't listen.

    Raises:
        ValueError: if it is none of these.
    """
    if text in {"", "0"}:
        return None
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is ambiguous: write an IPv6 address in brackets, as in [::1]:8080")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is no address to listen on: use host:port, :port, or 0 for none")
    return Address(host, int(port))


class HttpEndpoints:
    """Serves the endpoints from `start` to `stop`. They need no login: nothing secret is ever among what they tell."""

    def __init__(
        self,
        *,
        metrics_address: str,
        health_address: str,
        metrics: Callable[[str], tuple[bytes, str]],
        live: Mapping[str, Check],
        ready: Mapping[str, Check],
    ) -> None:
        """Two addresses that are written alike are one server with all endpoints.

        Args:
            metrics_address: As `parse_address` takes it.
            health_address: As `parse_address` takes it.
            metrics: From an Accept header to body and content type (`Metrics.expose`).
            live: What /healthz checks: whether a restart would help.
            ready: What /readyz checks.

        Raises:
            ValueError: if an address can't be read.
        """
        self._metrics = metrics
        self._live = live
        self._ready = ready
        self._metrics_address = parse_address(metrics_address)
        self._health_address = parse_address(health_address)
        self._runners: dict[Address, web.AppRunner] = {}

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: if an address can't be had; nothing is left listening then. The message names the address.
        """
        applications: dict[Address, web.Application] = {}
        if self._metrics_address is not None:
            application = applications.setdefault(self._metrics_address, web.Application())
            application.router.add_get("/metrics", self._serve_metrics)
        if self._health_address is not None:
            application = applications.setdefault(self._health_address, web.Application())
            application.router.add_get("/healthz", self._serve_live)
            application.router.add_get("/readyz", self._serve_ready)
        try:
            for address, application in applications.items():
                await self._listen(address, application)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Closes the servers; may be called again, and before `start`."""
        while self._runners:
            _, runner = self._runners.popitem()
            await runner.cleanup()

    @property
    def metrics_at(self) -> Address | None:
        """Where the metrics are being served, with the real port."""
        return self._bound(self._metrics_address)

    @property
    def health_at(self) -> Address | None:
        """Where the health checks are being served, with the real port."""
        return self._bound(self._health_address)

    def _bound(self, address: Address | None) -> Address | None:
        if address is None or address not in self._runners:
            return None
        return Address(address.host, int(self._runners[address].addresses[0][1]))

    async def _listen(self, address: Address, application: web.Application) -> None:
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        self._runners[address] = runner
        try:
            await web.TCPSite(runner, address.host or None, address.port).start()
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {address}: {error.strerror or error}") from error

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _serve_live(self, request: web.Request) -> web.Response:
        return _answer("healthz", self._live, request)

    async def _serve_ready(self, request: web.Request) -> web.Response:
        return _answer("readyz", self._ready, request)


def _answer(endpoint: str, checks: Mapping[str, Check], request: web.Request) -> web.Response:
    healthy, text = report(endpoint, checks, verbose="verbose" in request.query)
    headers = {"Cache-Control": "no-cache, private", "X-Content-Type-Options": "nosniff"}
    return web.Response(status=200 if healthy else 500, text=text, headers=headers)
