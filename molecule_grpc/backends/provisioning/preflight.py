"""Required variables of an agent's configuration that the start would not set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import yaml

CONFIG_FILE: Final = "config.yaml"
# A larger one is left to the agent: parsing takes about a second for each 256 KiB.
MOST_PARSED_BYTES: Final = 256 * 1024
_MARK: Final = b"required_env"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_MOST_NAMES: Final = 200


def missing(config: bytes, env: Mapping[str, str]) -> list[str]:
    """The variables of `runtime_config.required_env` that are unset or empty, by name.

    A configuration that nobody can read requires nothing here: its agent will say so.
    """
    if _MARK not in config or len(config) > MOST_PARSED_BYTES:
        return []
    try:
        parsed = yaml.safe_load(config)
    except Exception:  # noqa: BLE001  (tags such as `!!bool x` break the parser in ways of their own)
        return []
    runtime = parsed.get("runtime_config") if isinstance(parsed, dict) else None
    names = runtime.get("required_env") if isinstance(runtime, dict) else None
    if not isinstance(names, list):
        return []
    wanted = (name for name in names[:_MOST_NAMES] if isinstance(name, str))
    return sorted({name for name in wanted if _NAME.fullmatch(name) and not env.get(name)})
