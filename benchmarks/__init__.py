"""Measurements, and the kills and faults that check the promises."""

from __future__ import annotations

import os

# Benchmarks start processes while RPCs are in flight; gRPC's fork handlers crash some of them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
