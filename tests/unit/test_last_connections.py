"""Closing one SO_REUSEPORT socket resets no client that connects meanwhile."""

from __future__ import annotations

import select
import socket

import pytest

from molecule_grpc.server.process.last_connections import refuse_first_packets
from tests.waiting import PATIENCE

_CLIENTS = 16


def listener(port: int = 0) -> socket.socket:
    """A listening socket with SO_REUSEPORT."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(_CLIENTS)
    return made


def beginning_to_connect(port: int) -> socket.socket:
    """A client socket after its SYN."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    return client


def test_whoever_connects_while_a_socket_closes_reaches_another() -> None:
    """First packets are dropped and come again; connections that were there before stay."""
    leaving = listener()
    port = leaving.getsockname()[1]
    early = socket.create_connection(("127.0.0.1", port))
    refuse_first_packets({port})
    with early, listener(port) as staying:
        clients = [beginning_to_connect(port) for _ in range(_CLIENTS)]
        accepted, _ = leaving.accept()
        leaving.setblocking(False)
        with pytest.raises(BlockingIOError):
            leaving.accept()  # Whom the kernel sent here, it will send elsewhere.
        leaving.close()
        staying.settimeout(PATIENCE)
        served = [staying.accept()[0] for _ in clients]
        _, connected, _ = select.select([], clients, [], PATIENCE)
        assert all(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 for client in clients)
        assert connected
        early.sendall(b"still here")
        assert accepted.recv(64) == b"still here"
        for each in (accepted, *served, *clients):
            each.close()
