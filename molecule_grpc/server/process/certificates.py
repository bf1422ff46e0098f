"""Serves the operator's certificate files through the edge, and serves their successors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from prometheus_client import Gauge

from molecule_grpc.server.edge.tls import TlsFiles, TlsMaterial, read_tls, write_secrets
from molecule_grpc.settings.values import SettingsError

log = structlog.get_logger(__name__)

EXPIRY = Gauge(
    "molecule_tls_expiry_timestamp_seconds",
    "When the first certificate of the server's file, and of the clients' authority, expires.",
    ["certificate"],
)


class CertificateKeeper:
    """Copies certificate files for Envoy when they change, and only if they can be served.

    Files are compared by content, so that a copy in place, a rename and a changed link are all
    seen. A pair of which one half was replaced is not served: the old pair is, until both fit.

    Args:
        directory: private to this user; Envoy watches it.
    """

    def __init__(self, files: TlsFiles, directory: Path) -> None:
        self._files = files
        self._directory = directory
        self._served: TlsMaterial | None = None
        self._problem = ""
        self._logged = ""

    def install(self) -> None:
        """Serve what the files hold now.

        Raises:
            SettingsError: they cannot be served.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._serve(read_tls(self._files))

    async def look(self) -> None:
        """Serve what the files hold now, if that has changed and can be served."""
        try:
            material = await asyncio.to_thread(read_tls, self._files)
        except SettingsError as error:
            self._report(str(error))
            return
        self._problem = self._logged = ""
        if material != self._served:
            self._serve(material)
            dates = {name: when.isoformat() for name, when in material.expiries().items()}
            log.info("new certificate", subjects=material.subjects(), expires=dates)

    def _serve(self, material: TlsMaterial) -> None:
        write_secrets(material, self._directory)
        self._served = material
        for name, expiry in material.expiries().items():
            EXPIRY.labels(certificate=name).set(expiry.timestamp())

    def _report(self, problem: str) -> None:
        """Log a problem once, at the second look that sees it: the first may be amid a change."""
        if problem == self._problem != self._logged:
            log.error("the old certificate is still served", problem=problem)
            self._logged = problem
        self._problem = problem
