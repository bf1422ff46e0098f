"""A name server that knows some names, and lets the others wait for ever."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

_A_RECORD = 1
_ANSWERED = b"\x81\x80"
_HEADER_BYTES = 12


@dataclass(slots=True)
class NameServer:
    """Known names, and the questions received.

    Args:
        known: for each name, the IPv4 addresses of each answer in turn; the last one repeats.
        asked: every name whose IPv4 addresses were asked for.
    """

    known: Mapping[str, Sequence[tuple[str, ...]]]
    port: int
    asked: list[str] = field(default_factory=list)

    def answer(self, question: bytes) -> bytes | None:
        """The packet that answers a packet; None for silence."""
        labels, place = [], _HEADER_BYTES
        while question[place]:
            labels.append(question[place + 1 : place + 1 + question[place]].decode())
            place += 1 + question[place]
        name = ".".join(labels).lower()
        [kind] = struct.unpack(">H", question[place + 1 : place + 3])
        if kind == _A_RECORD:
            self.asked.append(name)
        if name not in self.known:
            return None
        addresses = self._next(name) if kind == _A_RECORD else ()
        packet = question[:2] + _ANSWERED + struct.pack(">HHHH", 1, len(addresses), 0, 0)
        packet += question[_HEADER_BYTES : place + 5]
        for address in addresses:
            # The name of the question, class IN, a life of 0 s.
            packet += b"\xc0\x0c" + struct.pack(">HHIH", _A_RECORD, 1, 0, 4)
            packet += ipaddress.IPv4Address(address).packed
        return packet

    def _next(self, name: str) -> tuple[str, ...]:
        answers = self.known[name]
        return answers[min(self.asked.count(name), len(answers)) - 1]


@contextlib.contextmanager
def name_server(known: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[NameServer]:
    """A name server on a loopback port, in a thread, while inside."""
    with serve_names(NameServer(known, 0), "127.0.0.1", 0) as server:
        yield server


@contextlib.contextmanager
def serve_names(server: NameServer, address: str, port: int) -> Iterator[NameServer]:
    """Serve at an address, in a thread, while inside; port 0 is one of the kernel's choice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((address, port))
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=_serve, args=(server, listening), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (address, server.port))
            thread.join()


def _serve(server: NameServer, listening: socket.socket) -> None:
    while True:
        question, asker = listening.recvfrom(4096)
        if not question:
            return
        packet = server.answer(question)
        if packet is not None:
            listening.sendto(packet, asker)
