"""Measurements, and the chaos that checks the promises."""

from __future__ import annotations

import os

# They start processes while they call: gRPC's handlers of fork crash some of those.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
