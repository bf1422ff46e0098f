"""Another store of memories, and the switch from the table of an old installation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from molecule_grpc.settings.values import SWITCH, Kind, setting

BUILT_IN: Final = "builtin:"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST: Final = 300.0


def _duration(text: str) -> float:
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        seconds = float(text)
    else:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not 0 < seconds <= _LONGEST:
        raise ValueError
    return seconds


def _url(text: str) -> str:
    text = text.strip().rstrip("/")
    if text == BUILT_IN:
        return text
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.username or parts.query or parts.fragment or parts.port == 0:
        raise ValueError
    return text


_PLUGIN_URL: Final = Kind(
    _url, f"an http:// or https:// URL without user name, query and fragment, or {BUILT_IN}"
)
_TIMEOUT: Final = Kind(
    _duration,
    "seconds, or a duration such as 500ms or 2s, above 0 and up to 300 s",
    show="{}s".format,
)
_EXACT: Final = Kind(str, "a text; only true has an effect")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPluginSettings:
    """Where memories are kept.

    Args:
        url: a server of the memory plugin contract; empty, or `builtin:`, for the built-in store.
        timeout: seconds for one request to the plugin; also `500ms`, `2s`.
        cutover: the text `true` makes clients that know scopes, and their export and import, use
            namespaces even where a table `agent_memories` of an old installation is in the
            database. Any other text has no effect.
        strict: whether a half configuration refuses to start instead of warning.
    """

    url: str = setting("MEMORY_PLUGIN_URL", _PLUGIN_URL, "")
    timeout: float = setting("MEMORY_PLUGIN_TIMEOUT", _TIMEOUT, 2.0)
    cutover: str = setting("MEMORY_V2_CUTOVER", _EXACT, "")
    strict: bool = setting("MEMORY_STRICT", SWITCH, False)

    @property
    def remote_url(self) -> str:
        """The URL of a plugin that runs elsewhere; empty for the built-in store."""
        return "" if self.url == BUILT_IN else self.url

    @property
    def cut_over(self) -> bool:
        """Whether the switch has exactly the text that turns it on."""
        return self.cutover == "true"
