"""The base of the parts of `Platform`."""

from __future__ import annotations

from molecule_grpc.client.connection import Connection


class Connected:
    """Has the connection; each part of `Platform` is a kind of it."""

    connection: Connection
