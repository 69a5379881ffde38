"""Which addresses are dialled: judged after the look-up, in every spelling, and pinned from then on."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.adapters.kube.addresses import (
    AddressReason,
    AddressRefused,
    Lookup,
    PinnedResolver,
    forbidden,
    resolve,
    resolve_all,
)
from tenantry.ports.kube import UnreachableError


def answering(*addresses: str) -> Lookup:
    async def lookup(host: str, port: int) -> list[str]:
        return list(addresses)

    return lookup


async def never(host: str, port: int) -> list[str]:
    raise AssertionError(f"{host} was looked up")


ALWAYS = [
    ("169.254.169.254", AddressReason.METADATA),
    ("fd00:ec2::254", AddressReason.METADATA),
    ("100.100.100.200", AddressReason.METADATA),
    ("168.63.129.16", AddressReason.METADATA),
    ("192.0.0.192", AddressReason.METADATA),
    ("fd20:ce::254", AddressReason.METADATA),
    ("::ffff:169.254.169.254", AddressReason.METADATA),
    ("64:ff9b::a9fe:a9fe", AddressReason.METADATA),
    ("2002:a9fe:a9fe::1", AddressReason.METADATA),
    ("::169.254.169.254", AddressReason.METADATA),
    ("169.254.0.1", AddressReason.LINK_LOCAL),
    ("fe80::1", AddressReason.LINK_LOCAL),
    ("0.0.0.0", AddressReason.UNSPECIFIED),  # noqa: S104 - refused, not bound
    ("0.1.2.3", AddressReason.UNSPECIFIED),
    ("::", AddressReason.UNSPECIFIED),
    ("::ffff:0.0.0.0", AddressReason.UNSPECIFIED),
    ("224.0.0.1", AddressReason.MULTICAST),
    ("ff02::1", AddressReason.MULTICAST),
    ("255.255.255.255", AddressReason.RESERVED),
    ("240.0.0.1", AddressReason.RESERVED),
]
LOOPBACK = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]


@pytest.mark.parametrize(("address", "reason"), ALWAYS)
@pytest.mark.parametrize("allow_loopback", [True, False])
async def test_a_name_that_leads_to_a_forbidden_address_is_refused(
    address: str, reason: AddressReason, allow_loopback: bool
) -> None:
    with pytest.raises(AddressRefused) as caught:
        await resolve("evil.example", 443, allow_loopback=allow_loopback, lookup=answering(address))
    assert caught.value.reason == reason
    assert "evil.example" in caught.value.message


@pytest.mark.parametrize(("address", "reason"), ALWAYS)
async def test_a_forbidden_address_in_person_is_refused_without_a_lookup(address: str, reason: AddressReason) -> None:
    with pytest.raises(AddressRefused) as caught:
        await resolve(address, 443, allow_loopback=True, lookup=never)
    assert caught.value.reason == reason


@pytest.mark.parametrize("address", LOOPBACK)
async def test_loopback_is_refused_unless_allowed(address: str) -> None:
    with pytest.raises(AddressRefused, match="--allow-loopback-targets") as caught:
        await resolve("localhost", 443, allow_loopback=False, lookup=answering(address))
    assert caught.value.reason == AddressReason.LOOPBACK
    found = await resolve("localhost", 443, allow_loopback=True, lookup=answering(address))
    assert found == str(ipaddress.ip_address(address))


ODD = ["2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.01", "1.2.3.4.5", "256.1.1.1", "1.2.3.4."]


@pytest.mark.parametrize("host", ODD)
async def test_ip_addresses_in_odd_spellings_are_refused(host: str) -> None:
    with pytest.raises(AddressRefused) as caught:
        await resolve(host, 443, allow_loopback=True, lookup=never)
    assert caught.value.reason == AddressReason.MALFORMED


async def test_an_address_with_a_zone_is_refused() -> None:
    with pytest.raises(AddressRefused):
        await resolve("fe80::1%eth0", 443, allow_loopback=True, lookup=never)
    with pytest.raises(AddressRefused):
        await resolve("router.example", 443, allow_loopback=True, lookup=answering("fe80::1%eth0"))


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "203.0.113.9", "fd00::1"])
async def test_private_and_public_addresses_are_fine(address: str) -> None:
    assert await resolve("eu.example.com", 443, allow_loopback=False, lookup=answering(address)) == address


async def test_one_forbidden_address_among_good_ones_refuses_the_name() -> None:
    with pytest.raises(AddressRefused):
        await resolve_all("evil.example", 443, allow_loopback=False, lookup=answering("203.0.113.9", "127.0.0.1"))


async def test_all_addresses_of_a_name_are_kept_in_their_order() -> None:
    found = await resolve_all(
        "eu.example.com", 443, allow_loopback=False, lookup=answering("2001:db8::1", "203.0.113.9")
    )
    assert found == ("2001:db8::1", "203.0.113.9")


async def test_a_name_that_does_not_resolve_is_unreachable() -> None:
    async def failing(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for lookup in (failing, answering()):
        with pytest.raises(UnreachableError, match=r"nowhere\.example does not resolve"):
            await resolve("nowhere.example", 443, allow_loopback=False, lookup=lookup)


async def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hanging(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr("tenantry.adapters.kube.addresses.LOOKUP_SECONDS", 0.01)
    with pytest.raises(UnreachableError, match="was not resolved within"):
        await resolve("slow.example", 443, allow_loopback=False, lookup=hanging)


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    verdict = forbidden(address, allow_loopback=False)
    mapped = ipaddress.IPv6Address(f"::ffff:{address}")
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(address))
    assert forbidden(mapped, allow_loopback=False) == verdict
    assert forbidden(translated, allow_loopback=False) == verdict


async def test_the_pinned_resolver_answers_what_was_judged() -> None:
    resolver = PinnedResolver(["203.0.113.9", "2001:db8::1"])
    found = await resolver.resolve("eu.example.com", 6443, socket.AF_UNSPEC)
    assert [(answer["host"], answer["port"], answer["family"]) for answer in found] == [
        ("203.0.113.9", 6443, socket.AF_INET),
        ("2001:db8::1", 6443, socket.AF_INET6),
    ]
    assert [answer["host"] for answer in await resolver.resolve("x", 1, socket.AF_INET)] == ["203.0.113.9"]
