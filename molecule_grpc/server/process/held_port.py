"""A port that several processes of one installation share, and nobody else."""

from __future__ import annotations

import socket

from molecule_grpc.server.edge.process import EdgeError


class HeldPort:
    """Takes a port for as long as it is open, without ever listening at it.

    Processes share the port by SO_REUSEPORT, so the kernel would let a second installation of the
    same user share it, too. This socket is bound without that option, as by any other server, and
    gets it afterwards: from then on it refuses whoever binds without, but not its own processes.
    No moment lies between the look and the taking, nor between the end of a process and the next.

    Raises:
        EdgeError: somebody has the port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if host == "::":  # IPv4 is served there, too.
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            # While binding, on: else connections that were closed a minute ago would hold the port.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            self._socket.close()
            raise EdgeError(f"Envoy did not start; is port {port} taken?") from error

    def close(self) -> None:
        """Let others have the port."""
        self._socket.close()
