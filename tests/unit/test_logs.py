"""Every line of the log is JSON, also those of libraries and of the edge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC as UTC_ZONE
from datetime import datetime, timedelta

from molecule_grpc.server.edge.process import LOG_FORMAT, UTC, envoy_program

PROGRAM = """
import logging
import threading
import warnings
import structlog
from molecule_grpc.server.process.logs import configure

configure("info")
structlog.get_logger().info("ours", step=1)
try:
    raise ConnectionError("refused")
except ConnectionError:
    logging.getLogger("asyncio").warning("retrying in %d s", 2, exc_info=True)
"""
# What Python itself prints, unless told otherwise.
UNCAUGHT = """
class Broken:
    def __del__(self):
        raise ValueError("in a destructor")

def fail(text):
    raise ValueError(text)

warnings.warn("a warning")
Broken()
thread = threading.Thread(target=fail, args=["in a thread"])
thread.start()
thread.join()
fail("in the program")
"""


def test_a_library_s_traceback_is_one_line_of_json() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    ours, theirs = map(json.loads, done.stderr.splitlines())
    assert (ours["event"], ours["level"]) == ("ours", "info")
    assert (theirs["event"], theirs["level"]) == ("retrying in 2 s", "warning")
    assert theirs["logger"] == "asyncio"
    assert "timestamp" in theirs
    assert "ConnectionError: refused" in theirs["exception"]


def test_what_nobody_caught_is_a_line_of_json() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + UNCAUGHT], capture_output=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()[2:]]
    assert done.returncode == 1
    assert [line["level"] for line in lines] == ["warning", "error", "error", "critical"]
    assert "a warning" in lines[0]["event"]
    for line, where in zip(lines[1:], ("a destructor", "a thread", "the program"), strict=True):
        assert f"ValueError: in {where}" in line["exception"]
        assert "timestamp" in line


def test_a_line_of_the_edge_s_log_is_json() -> None:
    done = subprocess.run(
        [envoy_program(), "--config-path", "/missing", "--log-format", LOG_FORMAT],
        capture_output=True,
        check=False,
        env={"TZ": "America/New_York"} | UTC,
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    assert any(line["level"] == "critical" and "/missing" in line["event"] for line in lines)
    assert all(line["process"] == "edge" for line in lines)
    # Of the same form as our own, which `datetime` reads.
    times = [line["timestamp"] for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", each) for each in times)
    ages = [datetime.now(UTC_ZONE) - datetime.fromisoformat(each) for each in times]
    assert max(ages) < timedelta(minutes=10)
