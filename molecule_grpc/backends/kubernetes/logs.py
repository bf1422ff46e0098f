"""What an agent printed, as the cluster's nodes keep it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.failures import ApiError
from molecule_grpc.backends.kubernetes.lines import pieces_of_lines
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.stamps import NANOSECONDS, position_of
from molecule_grpc.backends.tails import TAIL_LINES, tail_of

# A longer line comes in pieces.
_PIECE_BYTES: Final = 64 * 1024


async def read_logs(
    cluster: Cluster, pod: Json, *, since: int, follow: bool, tail: int
) -> AsyncGenerator[LogChunk, None]:
    """Lines with positions: the nanoseconds of the node's time stamp, since 1970.

    A line above 64 KiB comes in pieces, all at the line's position. Of a container that was
    started again, first what its predecessor printed.
    """
    if _restarts(pod):
        async for chunk in _lines(cluster, pod, since=since, tail=tail, previous="true"):
            yield chunk
            since = chunk.offset
    options = {"follow": "true"} if follow else {}
    async for chunk in _lines(cluster, pod, since=since, tail=tail, **options):
        yield chunk


async def last_output(cluster: Cluster, pod: Json) -> str:
    """The end of what an agent printed, for people; empty if the cluster does not tell."""
    state = _container(pod).get("state") or {}
    # A container that waits to be started again has printed nothing yet: its predecessor has.
    previous = {"previous": "true"} if "waiting" in state and _restarts(pod) else {}
    try:
        return await tail_of(_lines(cluster, pod, since=0, tail=TAIL_LINES, **previous))
    except ApiError:
        return ""


async def _lines(
    cluster: Cluster, pod: Json, *, since: int, tail: int, **options: str
) -> AsyncIterator[LogChunk]:
    query: dict[str, Any] = {"container": names.CONTAINER, "timestamps": "true", **options}
    if since:
        # The server rounds down to seconds: lines up to `since` come again, and are left out below.
        query["sinceTime"] = datetime.fromtimestamp(since // NANOSECONDS, UTC).isoformat()
    if tail:
        query["tailLines"] = tail
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    position, begins = since, True
    async with cluster.stream(path, **query) as answer:
        async for piece in pieces_of_lines(answer, _PIECE_BYTES):
            data = piece
            if begins:
                stamp, _, data = piece.partition(b" ")
                position = position_of(stamp.decode())
            begins = piece.endswith(b"\n")
            if position > since:
                yield LogChunk(position, data)


def _restarts(pod: Json) -> int:
    return int(_container(pod).get("restartCount") or 0)


def _container(pod: Json) -> Json:
    statuses: list[Json] = (pod.get("status") or {}).get("containerStatuses") or []
    return next((each for each in statuses if each["name"] == names.CONTAINER), {})
