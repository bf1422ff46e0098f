"""Operations as rows."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from molecule_grpc.backends.operations.rules import Options

_FIELDS = frozenset(each.name for each in dataclasses.fields(Options))


def options_text(options: Options) -> str:
    """Options as stored: what differs from the default."""
    plain = Options()
    given = dataclasses.asdict(options)
    return json.dumps({key: value for key, value in given.items() if value != getattr(plain, key)})


def read_options(text: str) -> Options:
    """Stored options; what a newer version has added is left out."""
    given: dict[str, Any] = json.loads(text)
    return Options(**{key: value for key, value in given.items() if key in _FIELDS})
