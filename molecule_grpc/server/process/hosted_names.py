"""Names on which a fleet and the workers inside Envoy agree.

They stand apart: a fleet serves no call, and need not load what a worker runs.
"""

from __future__ import annotations

# Variable of a worker's environment: its directory.
DIRECTORY = "HOSTED_WORKER_DIRECTORY"
# In the fleet's directory, which is the parent of each worker's.
DSN, METRICS_PORT = "dsn", "metrics-port"
# In the worker's.
BEAT, CONTROL, OPERATOR = "beat", "control.sock", "operator.sock"
