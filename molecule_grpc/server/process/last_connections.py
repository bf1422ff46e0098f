"""How a process stops to listen at a shared port without resetting anybody's connection.

Where processes share a port by SO_REUSEPORT, the kernel assigns a client to one of them with its
first packet. Whoever is in the queue of a socket that closes is reset, unless the kernel moves it
(`net.ipv4.tcp_migrate_req`), which no installation can count on. So the socket takes no new clients
for a moment before it closes: a first packet that is dropped comes again after a second, when the
kernel assigns it to a process that listens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
from pathlib import Path

_SO_ATTACH_FILTER = 26
_FIRST_PACKET = 0x02, 0x12  # Of the flags SYN and ACK, SYN alone.
_FLAGS_OFFSET = 13
# Classic BPF, over the TCP header: code, jump if true, jump if false, operand.
_PROGRAM = (
    (0x30, 0, 0, _FLAGS_OFFSET),  # load a byte
    (0x54, 0, 0, _FIRST_PACKET[1]),  # and
    (0x15, 0, 1, _FIRST_PACKET[0]),  # equal?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # keep
)


def refuse_first_packets(ports: set[int]) -> None:
    """Let the sockets of this process that listen at these ports drop the first packets."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as found:
            if _listens(found) and found.getsockname()[1] in ports:
                _attach(found)


def _listens(found: socket.socket) -> bool:
    internet = found.family in (socket.AF_INET, socket.AF_INET6)
    return internet and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _attach(listening: socket.socket) -> None:
    code = b"".join(struct.pack("HBBI", *line) for line in _PROGRAM)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_PROGRAM), ctypes.addressof(buffer))
    listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
