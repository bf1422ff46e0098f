"""`serve`: one worker, as `up` runs several of."""

from __future__ import annotations

import uvloop

from molecule_grpc.cli.context import InstallationError
from molecule_grpc.server.process import worker
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.settings import Settings


def serve(settings: Settings, address: str) -> None:
    """Run one worker in the foreground at `address` (unix:PATH or HOST:PORT), without the edge.

    Raises:
        InstallationError: DATABASE_URL is not set; only `up` brings a database along.
    """
    if not settings.process.database_url:
        raise InstallationError("serve needs DATABASE_URL; `molecule-grpc up` brings its own")
    configure(settings.process.log_level)
    uvloop.run(worker.serve(settings, settings.process.database_url, address, behind_edge=True))
