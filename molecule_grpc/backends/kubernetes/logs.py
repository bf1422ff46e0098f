"""What an agent printed, as the cluster's nodes keep it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

from molecule_grpc.backends.contract import LogChunk
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.failures import ApiError
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.stamps import NANOSECONDS, position_of

# Of a failure's output.
_OUTPUT_BYTES: Final = 2048
_OUTPUT_LINES: Final = 40


async def read_logs(
    cluster: Cluster, pod: Json, *, since: int, follow: bool, tail: int
) -> AsyncGenerator[LogChunk, None]:
    """Lines with positions: the nanoseconds of the node's time stamp, since 1970.

    Of a container that was started again, first what its predecessor printed.
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
        chunks = _lines(cluster, pod, since=0, tail=_OUTPUT_LINES, **previous)
        lines = [chunk.data async for chunk in chunks]
    except ApiError:
        return ""
    return b"".join(lines)[-_OUTPUT_BYTES:].decode(errors="replace").replace("\0", "")


async def _lines(
    cluster: Cluster, pod: Json, *, since: int, tail: int, **options: str
) -> AsyncIterator[LogChunk]:
    query: dict[str, Any] = {"container": names.CONTAINER, "timestamps": "true", **options}
    if since:
        # The server knows seconds only: what it sends again is left out below.
        query["sinceTime"] = datetime.fromtimestamp(since // NANOSECONDS, UTC).isoformat()
    if tail:
        query["tailLines"] = tail
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    async with cluster.stream(path, **query) as lines:
        while line := await lines.readline():
            stamp, _, data = line.partition(b" ")
            if (position := position_of(stamp.decode())) > since:
                yield LogChunk(position, data)


def _restarts(pod: Json) -> int:
    return int(_container(pod).get("restartCount") or 0)


def _container(pod: Json) -> Json:
    statuses: list[Json] = (pod.get("status") or {}).get("containerStatuses") or []
    return next((each for each in statuses if each["name"] == names.CONTAINER), {})
