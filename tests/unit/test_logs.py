"""Every line of the log is JSON, also those of libraries and of the edge."""

from __future__ import annotations

import json
import subprocess
import sys

from molecule_grpc.server.edge.process import LOG_FORMAT, envoy_program

PROGRAM = """
import logging
import structlog
from molecule_grpc.server.process.logs import configure

configure("info")
structlog.get_logger().info("ours", step=1)
try:
    raise ConnectionError("refused")
except ConnectionError:
    logging.getLogger("asyncio").warning("retrying in %d s", 2, exc_info=True)
"""


def test_a_library_s_traceback_is_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    ours, theirs = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["level"]) == ("ours", "info")
    assert (theirs["event"], theirs["level"]) == ("retrying in 2 s", "warning")
    assert theirs["logger"] == "asyncio"
    assert "timestamp" in theirs
    assert "ConnectionError: refused" in theirs["exception"]


def test_a_line_of_the_edge_s_log_is_json() -> None:
    done = subprocess.run(
        [envoy_program(), "--config-path", "/missing", "--log-format", LOG_FORMAT],
        capture_output=True,
        check=False,
        env={},
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    assert any(line["level"] == "critical" and "/missing" in line["event"] for line in lines)
    assert all(line["process"] == "edge" for line in lines)
