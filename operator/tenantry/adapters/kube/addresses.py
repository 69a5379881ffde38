"""Which addresses a stranger's host may lead to: resolved once, each answer judged, and only those are dialled."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

from tenantry.ports.kube import UnreachableError

LOOKUP_SECONDS: Final = 5.0

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""From host and port to IP addresses as text, best first. Raises OSError."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressReason(StrEnum):
    """Why an address is not dialled."""

    LOOPBACK = "AddressLoopback"
    LINK_LOCAL = "AddressLinkLocal"
    METADATA = "AddressMetadata"
    UNSPECIFIED = "AddressUnspecified"
    MULTICAST = "AddressMulticast"
    RESERVED = "AddressReserved"
    MALFORMED = "AddressMalformed"


class AddressRefused(Exception):  # noqa: N818 - a verdict on input, not a fault of ours
    """A host that leads where a stranger must not send us.

    Attributes:
        reason: For conditions.
        message: Names the host and the address.
    """

    def __init__(self, reason: AddressReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


_METADATA: Final = frozenset(
    ipaddress.ip_address(address)
    for address in (
        "169.254.169.254",  # AWS, Azure, GCP, OpenStack and most others
        "fd00:ec2::254",  # AWS
        "fd20:ce::254",  # GCP
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure's host
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_V4_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_THIS_NETWORK: Final = ipaddress.IPv4Network("0.0.0.0/8")


async def system_lookup(host: str, port: int) -> list[str]:
    """The system's resolver: /etc/hosts, search domains and all."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


async def resolve(host: str, port: int, *, allow_loopback: bool, lookup: Lookup = system_lookup) -> str:
    """The first address of `resolve_all`."""
    return (await resolve_all(host, port, allow_loopback=allow_loopback, lookup=lookup))[0]


async def resolve_all(host: str, port: int, *, allow_loopback: bool, lookup: Lookup = system_lookup) -> tuple[str, ...]:
    """The addresses that may be dialled for a host, at least one, best first, in normal form.

    One forbidden address among several refuses the host: no honest name leads to both.

    Args:
        host: A DNS name or an IP address, without brackets.
        port: Handed to the lookup.
        allow_loopback: For development and tests, where the target is on this machine.
        lookup: How names are resolved.

    Raises:
        AddressRefused: if any address is forbidden, or the host is an IP address in an odd spelling.
        UnreachableError: if the name does not resolve, or not within 5 s.
    """
    literal = _literal(host)
    answers = [literal] if literal else await _looked_up(host, port, lookup)
    addresses = []
    for answer in answers:
        address = ipaddress.ip_address(answer)
        if reason := forbidden(address, allow_loopback=allow_loopback):
            where = host if str(address) == host else f"{host} ({address})"
            raise AddressRefused(reason, f"{where} is {_WORDS[reason]}, which is no address of a target")
        addresses.append(str(address))
    return tuple(addresses)


_WORDS: Final = {
    AddressReason.LOOPBACK: "this machine's own loopback (allowed only with --allow-loopback-targets)",
    AddressReason.LINK_LOCAL: "a link-local address",
    AddressReason.METADATA: "a cloud's metadata service",
    AddressReason.UNSPECIFIED: "the unspecified address",
    AddressReason.MULTICAST: "a multicast address",
    AddressReason.RESERVED: "a reserved address",
    AddressReason.MALFORMED: "an IP address in an odd spelling",
}


def forbidden(address: _Address, *, allow_loopback: bool) -> AddressReason | None:
    """Why this address is not dialled; None if it may be. IPv4 inside IPv6 is judged as IPv4."""
    address = _unwrapped(address)
    rules = (
        (AddressReason.METADATA, address in _METADATA),
        (AddressReason.LINK_LOCAL, address.is_link_local),
        (AddressReason.UNSPECIFIED, address.is_unspecified or address in _THIS_NETWORK),
        (AddressReason.MULTICAST, address.is_multicast),
        (AddressReason.LOOPBACK, address.is_loopback and not allow_loopback),
        (AddressReason.RESERVED, address.version == 4 and address.is_reserved),
    )
    return next((reason for reason, applies in rules if applies), None)


def _unwrapped(address: _Address) -> _Address:
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _literal(host: str) -> str | None:
    """The host as an IP address in normal form; None for a name.

    What only inet_aton takes for an address (`0177.1`, `2130706433`, `0x7f.1`) is refused: people don't write such.
    """
    try:
        if "%" not in host:
            return str(ipaddress.ip_address(host))
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        if ":" not in host and not last.isdecimal() and not last.startswith("0x"):
            return None
    raise AddressRefused(AddressReason.MALFORMED, f"{host} is an IP address in an odd spelling: write it plainly")


async def _looked_up(host: str, port: int, lookup: Lookup) -> list[str]:
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            answers = [answer.partition("%")[0] for answer in await lookup(host, port)]
    except TimeoutError:
        raise UnreachableError(f"the name {host} was not resolved within {LOOKUP_SECONDS:g} s") from None
    except (OSError, UnicodeError):
        raise UnreachableError(f"the name {host} does not resolve") from None
    if not answers:
        raise UnreachableError(f"the name {host} does not resolve")
    return answers


class PinnedResolver(AbstractResolver):
    """Tells aiohttp the addresses that were judged, whatever DNS says by now."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(ipaddress.ip_address(address) for address in addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The pinned addresses."""
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=families[address.version],
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
            if family in {socket.AF_UNSPEC, families[address.version]}
        ]

    async def close(self) -> None:
        """Nothing is held."""
