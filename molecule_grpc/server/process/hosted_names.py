"""Names on which a fleet and the workers inside Envoy agree.

They stand apart: a fleet serves no call, and need not load what a worker runs.
"""

from __future__ import annotations

from enum import StrEnum

# Variable of a worker's environment: its directory.
DIRECTORY = "HOSTED_WORKER_DIRECTORY"
# In the fleet's directory, which is the parent of each worker's.
DSN, METRICS_PORT = "dsn", "metrics-port"
# In the worker's.
OPEN, BEAT, CONTROL, OPERATOR = "open", "beat", "control.sock", "operator.sock"


class Word(StrEnum):
    """What the fleet says to a worker that is to end, a line on a connection of its own."""

    LEAVE = "leave"  # Health says NOT_SERVING from now on; calls are still served.
    CLOSE = "close"  # The port's socket takes no new clients: it is about to be closed.
    DRAIN = "drain"  # What lasts is told to come back elsewhere, what is in flight may finish.
