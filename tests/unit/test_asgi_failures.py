"""What no call should meet is one line of the log, and an answer with its incident."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from molecule_grpc.server.hosts.envoy.asgi import AsgiHost
from molecule_grpc.server.hosts.envoy.exchange import Event, Exchange, Send
from molecule_grpc.server.status import Code

UNUSED: Any = None


async def broken_rpc(_: Exchange) -> None:
    raise ValueError("secret detail")


async def broken_page(_: Event, __: Send) -> None:
    raise ValueError("secret detail")


@pytest.mark.parametrize("path", ["/a.B/Rpc", "/page"])
async def test_a_bug_of_the_host_is_one_line_and_an_answer(path: str) -> None:
    host = AsgiHost(
        [],
        UNUSED,
        UNUSED,
        native={"/a.B/Rpc": broken_rpc},
        pages={"/page": broken_page},
        write_seconds=1,
        call_seconds=1,
    )
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    scope = {
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "method": "POST",
        "scheme": "http",
        "headers": (),
    }
    with structlog.testing.capture_logs() as lines:
        await host(scope, UNUSED, send)
    (line,) = lines
    assert (line["event"], line["path"], line["log_level"]) == ("the host failed", path, "error")
    assert str(line["exc_info"]) == "secret detail"
    assert line["incident"] in repr(sent)
    assert "secret" not in repr(sent)
    if path == "/page":
        assert sent[0]["status"] == 500
    else:
        assert (b"grpc-status", b"%d" % Code.INTERNAL) in sent[0]["headers"]
