"""Which store serves, and whether an operator configured only half of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import structlog
from prometheus_client import Gauge

from molecule_grpc.settings.memory_plugin import BUILT_IN, MemoryPluginSettings
from molecule_grpc.settings.values import SettingsError

log = structlog.get_logger(__name__)


class CutoverState(enum.StrEnum):
    """What the settings and the first probe of the plugin come to."""

    BUILT_IN = "built_in"
    """No plugin: the built-in store serves."""
    NO_PLUGIN = "no_plugin"
    """Cut over, and no plugin is named: the built-in store serves, perhaps by oversight."""
    PLUGIN = "plugin"
    """The plugin serves."""
    PLUGIN_DOWN = "plugin_down"
    """The plugin did not answer at start: calls about memories fail until it does."""


_STATE = Gauge(
    "memory_cutover_state",
    "Which store of memories serves, as it was at start: 1 for the state that holds.",
    ["state"],
    multiprocess_mode="livemax",
)


def announce(
    settings: MemoryPluginSettings, error: str | None, capabilities: Iterable[str]
) -> CutoverState:
    """Say in log and metric which store serves.

    Args:
        error: why the plugin did not answer the first probe; None if it did, or there is none.

    Raises:
        SettingsError: MEMORY_STRICT=1, and only half is configured.
    """
    state = _state(settings, error)
    for each in CutoverState:
        _STATE.labels(each.value).set(each is state)
    if settings.cutover not in ("", "true", "false"):
        log.warning(
            "MEMORY_V2_CUTOVER has no effect: only the exact value true has one",
            value=settings.cutover,
        )
    if state is CutoverState.NO_PLUGIN:
        text = (
            "MEMORY_V2_CUTOVER=true, but MEMORY_PLUGIN_URL is not set: no plugin is asked, the"
            f" built-in store serves everything; MEMORY_PLUGIN_URL={BUILT_IN} says that this is"
            " meant"
        )
        _half(settings, text)
    elif state is CutoverState.PLUGIN_DOWN and settings.cut_over:
        text = (
            f"MEMORY_V2_CUTOVER=true, but the memory plugin at {settings.url} does not answer:"
            f" {error}; calls about memories fail until it does, nothing goes to another store"
        )
        _half(settings, text)
    elif state is CutoverState.PLUGIN_DOWN:
        log.info("the memory plugin does not answer yet", url=settings.url, error=error)
    elif state is CutoverState.PLUGIN:
        log.info(
            "the memory plugin serves",
            url=settings.url,
            capabilities=sorted(capabilities),
            cutover=settings.cut_over,
        )
    return state


def _state(settings: MemoryPluginSettings, error: str | None) -> CutoverState:
    if settings.remote_url:
        return CutoverState.PLUGIN if error is None else CutoverState.PLUGIN_DOWN
    unnamed = settings.cut_over and not settings.url
    return CutoverState.NO_PLUGIN if unnamed else CutoverState.BUILT_IN


def _half(settings: MemoryPluginSettings, text: str) -> None:
    if settings.strict:
        raise SettingsError(f"{text} (MEMORY_STRICT=1)")
    log.warning(text)
