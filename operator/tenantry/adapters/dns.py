"""Looking up TXT records, which prove that a custom host is the tenant's."""

from __future__ import annotations

from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

SECONDS: Final = 3.0


class TxtLookup:
    """Implements `tenantry.ports.Dns`.

    Args:
        servers: `address` or `address:port` of the DNS servers to ask; empty for the system's.
    """

    def __init__(self, servers: tuple[str, ...] = ()) -> None:
        self._servers = servers

    async def txt(self, name: str) -> tuple[str, ...]:
        """See `Dns`."""
        try:
            answer = await self._resolver().resolve(name, "TXT", lifetime=SECONDS)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except dns.exception.DNSException as error:
            raise TimeoutError(f"no DNS server answered for {name}: {type(error).__name__}") from error
        return tuple(b"".join(record.strings).decode(errors="replace") for record in answer)

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
