"""The command line; `up` and the workers start from here."""

from __future__ import annotations

import os

# The handlers that gRPC runs at a fork crash the child now and then, while other threads of this
# process use gRPC. They serve children that use gRPC before they exec; ours exec at once. gRPC
# reads the variable when it is first imported, and workers inherit it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
