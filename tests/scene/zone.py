"""A DNS server for tests: answers TXT, A and AAAA questions from a folder's files: any process can publish."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path
from types import MappingProxyType
from typing import Self

import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

LOOPBACK = "127.0.0.1"
DATAGRAM = 4096
SILENT = "silent.example"
"""Questions about names under it are never answered, as by a DNS server that its owner has made slow on purpose."""
_ADDRESS_RECORDS = MappingProxyType({dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6})


def publish(zone: Path, name: str, *values: str) -> None:
    """Give a name records instead of those it has; without values, take them away.

    Each value is a TXT record; one that is an IP address is an A or AAAA record, too.
    """
    if values:
        fresh = zone / f".{name}"
        fresh.write_text("\n".join(values))
        fresh.rename(zone / name)
    else:
        (zone / name).unlink(missing_ok=True)


class TxtServer:
    """Listens on a loopback UDP port: a file `<name>` in the zone's folder has one TXT record a line."""

    def __init__(self, zone: Path) -> None:
        self._zone = zone
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self._thread = threading.Thread(target=self._serve, daemon=True, name="txt-server")
        self.address = f"{LOOPBACK}:{self._socket.getsockname()[1]}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Listen no more. Harmless when repeated."""
        host, port = self.address.split(":")
        if self._thread.is_alive():
            self._socket.sendto(b"", (host, int(port)))  # closing a socket does not wake who waits for it
            self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, sender = self._socket.recvfrom(DATAGRAM)
            if not question:
                return
            try:
                query = dns.message.from_wire(question)
            except dns.exception.DNSException:
                continue
            if query.question[0].name.to_text(omit_final_dot=True).lower().endswith(SILENT):
                continue
            self._socket.sendto(self._answer(query).to_wire(), sender)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        asked = query.question[0]
        try:
            values = (self._zone / asked.name.to_text(omit_final_dot=True).lower()).read_text().splitlines()
        except OSError:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return answer
        if (version := _ADDRESS_RECORDS.get(asked.rdtype)) is not None:
            addresses = [value for value in values if _is_address(value, version)]
            if addresses:  # an RRset of none would be written as a record without data
                kind = dns.rdatatype.to_text(asked.rdtype)
                answer.answer.append(dns.rrset.from_text_list(asked.name, 1, "IN", kind, addresses))
        if asked.rdtype == dns.rdatatype.TXT:
            quoted = [f'"{value}"' for value in values]
            answer.answer.append(dns.rrset.from_text_list(asked.name, 1, "IN", "TXT", quoted))
        return answer


def _is_address(value: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(value).version == version
    except ValueError:
        return False
