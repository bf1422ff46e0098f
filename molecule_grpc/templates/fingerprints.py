"""By what an import tells whether a template describes a workspace as it did when that was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from molecule_grpc.templates.generating import Configured
from molecule_grpc.templates.values import Node

_MOST_CHANGES: Final = 100
_FILES: Final = "files/"


def fingerprints(node: Node, configured: Configured) -> dict[str, str]:
    """A fingerprint of each part of a workspace. Of secrets only the names count."""
    parts: dict[str, object] = {
        "role": node.role,
        "runtime": configured.runtime,
        "model": configured.model,
        "tier": node.tier,
        "external": node.external,
        "url": node.url,
        "workspace_dir": node.workspace_dir,
        "workspace_access": node.workspace_access,
        "max_concurrent_tasks": node.max_concurrent_tasks,
        "egress": node.egress.hosts,
        "secrets": sorted(node.secrets),
        "initial_memories": node.memories,
        "schedules": node.schedules,
    }
    found = {name: _of(json.dumps(part, default=str).encode()) for name, part in parts.items()}
    files = {f"{_FILES}{path}": _of(content) for path, content in configured.files.items()}
    return found | files


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The parts that differ, by name; up to 100."""
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return tuple(names[:_MOST_CHANGES])


def _of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
