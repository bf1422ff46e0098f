"""Tells programs from web pages among the calls that show no token.

Where calls without a token pass as the operator's, a page that a developer visits could make the
browser send some: across origins without asking first, or from the page's own origin after its
name was rebound to this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from molecule_grpc.settings.edge import EdgeSettings, is_loopback

# Set by the edge alone. A connection to a worker itself has neither, and no browser speaks gRPC.
_HOST = "x-forwarded-host"
_BODY_TYPE = "x-body-type"


class LocalCalls:
    """Decides by Host, Origin and content type.

    Args:
        edge: on a loopback address, a Host must name this machine or the platform's own URL; the
            origins of CORS may call, `*` excepted.
    """

    def __init__(self, edge: EdgeSettings) -> None:
        self._own_names = {edge.host, urlsplit(edge.external_platform_url).hostname} - {"", None}
        self._any_host = not is_loopback(edge.host)
        self._origins = frozenset(edge.cors_origins) - {"*"}

    def admits(self, metadata: Mapping[str, str], *, files: bool) -> bool:
        """Whether a call without a token may pass where such calls pass.

        Args:
            files: the body is the bytes of files, of any content type.
        """
        host = metadata.get(_HOST)
        if host is None:
            return True
        origin = metadata.get("origin")
        body_type = metadata.get(_BODY_TYPE)
        return (
            (self._any_host or self._names_us(host))
            and (origin is None or origin in self._origins or _authority(origin) == host.lower())
            and (body_type is None or files or _is_json(body_type))
        )

    def _names_us(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return name is not None and (name in self._own_names or is_loopback(name))


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
