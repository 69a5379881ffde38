"""Looking up names that strangers chose: the proofs of custom hosts, and where External databases are."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

from tenantry.adapters.kube.addresses import AddressRefused, resolve_all
from tenantry.ports.kube import CredentialsRefusedError

SECONDS: Final = 3.0


class DnsLookup:
    """Implements `tenantry.ports.world.Dns`.

    The system's getaddrinfo is not used: it blocks a thread for as long as the owner of a name likes, and there are
    few threads.

    Args:
        servers: `address` or `address:port` of the DNS servers to ask; empty for the system's.
        allow_loopback: For development and tests, where everything is on this machine.
    """

    def __init__(self, servers: tuple[str, ...] = (), *, allow_loopback: bool = False) -> None:
        self._servers = servers
        self._allow_loopback = allow_loopback

    async def txt(self, name: str) -> tuple[str, ...]:
        """See `Dns`."""
        try:
            answer = await self._resolver().resolve(name, "TXT", lifetime=SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except dns.exception.DNSException as error:
            raise TimeoutError(f"no DNS server answered for {name}: {type(error).__name__}") from error
        return tuple(b"".join(record.strings).decode(errors="replace") for record in answer)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """See `Dns`."""
        try:
            found = await resolve_all(host, 0, allow_loopback=self._allow_loopback, lookup=self._lookup)
        except AddressRefused as refused:
            raise CredentialsRefusedError(refused.reason, refused.message) from refused
        return tuple(sorted(set(found), key=lambda address: (":" in address, ipaddress.ip_address(address).packed)))

    async def _lookup(self, host: str, _port: int) -> list[str]:
        """The A and AAAA records of a name.

        Raises:
            OSError: no server answered one of the two questions: half of an answer would shut out the other half.
        """
        resolver = self._resolver()
        answers = await asyncio.gather(*(self._records(resolver, host, kind) for kind in ("A", "AAAA")))
        return [address for answer in answers for address in answer]

    @staticmethod
    async def _records(resolver: dns.asyncresolver.Resolver, host: str, kind: str) -> list[str]:
        try:
            answer = await resolver.resolve(host, kind, lifetime=SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.DNSException as error:
            raise OSError(f"no DNS server answered for {host}: {type(error).__name__}") from error
        return [record.to_text() for record in answer]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """A new one each time: resolv.conf may have changed, and proofs are rare."""
        if not self._servers:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(host.strip("[]"), int(port or 53))
            for host, _, port in (
                server.rpartition(":") if ":" in server else (server, "", "") for server in self._servers
            )
        ]
        return resolver
