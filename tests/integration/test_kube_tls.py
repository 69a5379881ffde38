"""Whom the client talks to: certificates, host names, and the address that was judged."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.controlplane.access import kubeconfig_text
from tests.controlplane.certificates import Authority
from tests.integration.answering import AUTHORITY, TOKEN, A, config_map, error_of
from tests.integration.wire import (
    replying,
    server_context,
    wire,
)

from tenantry.adapters.kube.addresses import AddressRefused
from tenantry.adapters.kube.client import connect
from tenantry.adapters.kube.kubeconfig import TargetCredentials, parse_kubeconfig
from tenantry.ports.kube import KubeError, UnauthorizedError, UnreachableError


def credentials(port: int, *, ca: Authority = AUTHORITY, host: str = "localhost") -> TargetCredentials:
    text = kubeconfig_text("wire", f"https://{host}:{port}", ca.certificate_pem, {"token": TOKEN})
    return parse_kubeconfig(text, now=datetime.now(UTC))


async def error_of_connecting(to: TargetCredentials) -> KubeError:
    client = await connect(to, allow_loopback=True, seconds=5)
    try:
        return await error_of(client.get(A))
    finally:
        await client.close()


async def test_the_token_travels_only_to_a_server_that_the_ca_has_signed() -> None:
    tls = server_context(AUTHORITY, "localhost")
    async with wire(replying(config_map(1)), tls=tls) as server:
        client = await connect(credentials(server.port), allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()
        assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
        assert server.requests[0].headers["user-agent"].startswith("tenantry/")
        error = await error_of_connecting(credentials(server.port, ca=Authority.new("other")))
        assert error.message == "the server's certificate is not signed by the kubeconfig's CA"
        assert len(server.requests) == 1


async def test_a_certificate_for_another_host_is_said_and_tls_server_name_helps() -> None:
    tls = server_context(AUTHORITY, "kubernetes.default")
    async with wire(replying(config_map(1)), tls=tls) as server:
        error = await error_of_connecting(credentials(server.port))
        assert "is for another host" in error.message
        named = replace(credentials(server.port), tls_server_name="kubernetes.default")
        client = await connect(named, allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()


async def test_a_server_without_tls_is_said() -> None:
    async with wire(replying({})) as server:
        error = await error_of_connecting(credentials(server.port))
    assert isinstance(error, UnreachableError)
    assert error.message == "the server does not speak TLS"


def refuse_clients(listener: socket.socket, tls: ssl.SSLContext) -> None:
    """TLS handshakes that fail for want of a client certificate; blocking, as asyncio's servers send no alert."""
    for _ in range(2):  # aiohttp tries a GET twice
        connection, _ = listener.accept()
        with connection.dup() as still_open:  # else the alert may be lost in a reset
            with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
                tls.wrap_socket(connection, server_side=True)
            still_open.settimeout(5)
            while still_open.recv(4096):
                pass


async def test_a_server_that_wants_a_client_certificate_refuses_the_credentials() -> None:
    tls = server_context(AUTHORITY, "localhost")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(cadata=AUTHORITY.certificate_pem)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(refuse_clients, listener, tls))
        error = await error_of_connecting(credentials(listener.getsockname()[1]))
        await refusing
    assert isinstance(error, UnauthorizedError)
    assert error.message == "the server does not accept the client certificate"
    pair = AUTHORITY.client("operator")
    keys = (pair.certificate_pem.encode(), pair.key_pem.encode())
    async with wire(replying(config_map(1)), tls=tls) as server:
        certified = replace(credentials(server.port), client_certificate_pem=keys[0], client_key_pem=keys[1])
        client = await connect(certified, allow_loopback=True)
        assert await client.get(A) == config_map(1)
        await client.close()


async def test_loopback_is_dialled_only_where_it_is_allowed() -> None:
    async with wire(replying({}), tls=server_context(AUTHORITY, "localhost")) as server:
        for host in ("localhost", "127.0.0.1"):
            with pytest.raises(AddressRefused):
                await connect(credentials(server.port, host=host), allow_loopback=False)
        assert server.requests == []


async def test_the_address_that_was_judged_is_dialled_whatever_dns_says_later() -> None:
    async def first_answer(host: str, _port: int) -> list[str]:
        assert host == "rebound.example"
        return ["127.0.0.1"]

    async with wire(replying(config_map(1)), tls=server_context(AUTHORITY, "rebound.example")) as server:
        to = credentials(server.port, host="rebound.example")
        client = await connect(to, allow_loopback=True, lookup=first_answer)
        assert await client.get(A) == config_map(1)  # DNS knows no such name: only the pinned address leads there
        assert server.requests[0].headers["host"] == f"rebound.example:{server.port}"
        await client.close()
