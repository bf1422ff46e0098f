"""These tests need a cluster whose programs take minutes to build: `make test-kubernetes`."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TEST_KUBERNETES") else ["test_*.py"]
