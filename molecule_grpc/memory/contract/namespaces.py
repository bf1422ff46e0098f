"""Version 1 of the contract: health of a store, and its namespaces."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from molecule_grpc.memory.contract import fields as read
from molecule_grpc.memory.contract.objects import MOST_OBJECT_BYTES, NAMESPACE_KINDS, without_none
from molecule_grpc.memory.contract.times import as_text


class _Absent(enum.Enum):
    ABSENT = enum.auto()


ABSENT: Final = _Absent.ABSENT
"""A field that was not sent: what is stored stays. Null removes what is stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answer of a store's health check: status, version and capabilities."""

    status: str
    version: str
    capabilities: tuple[str, ...]

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "health")
        listed = body.get("capabilities") or []
        return cls(
            status=read.text(body, "status"),
            version=str(body.get("version") or ""),
            capabilities=tuple(read.texts(listed, "capabilities")),
        )

    def json(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "version": self.version,
            "capabilities": list(self.capabilities),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacePut:
    """Makes a namespace, or changes what is sent of one. Its kind never changes."""

    kind: str
    expires_at: datetime | _Absent | None = ABSENT
    metadata: Mapping[str, Any] | _Absent | None = ABSENT

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "body")
        return cls(
            kind=read.choice(body, "kind", NAMESPACE_KINDS),
            expires_at=_time_or_absent(body, "expires_at"),
            metadata=_object_or_absent(body, "metadata"),
        )

    def json(self) -> dict[str, Any]:
        return {"kind": self.kind} | _changes(self.expires_at, self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespacePatch:
    """Changes a namespace; at least one field is sent."""

    expires_at: datetime | _Absent | None = ABSENT
    metadata: Mapping[str, Any] | _Absent | None = ABSENT

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "body")
        patch = cls(
            expires_at=_time_or_absent(body, "expires_at"),
            metadata=_object_or_absent(body, "metadata"),
        )
        patch.check()
        return patch

    def check(self) -> None:
        """Raises `ContractInvalid`."""
        if self.expires_at is ABSENT and self.metadata is ABSENT:
            raise read.ContractInvalid("a patch needs expires_at or metadata")

    def json(self) -> dict[str, Any]:
        return _changes(self.expires_at, self.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace as it is stored."""

    name: str
    kind: str
    created_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, Any] | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "namespace")
        return cls(
            name=read.text(body, "name"),
            kind=read.text(body, "kind"),
            created_at=read.optional_time(body, "created_at"),
            expires_at=read.optional_time(body, "expires_at"),
            metadata=read.optional_object(body, "metadata"),
        )

    def json(self) -> dict[str, Any]:
        return without_none(
            name=self.name,
            kind=self.kind,
            created_at=as_text(self.created_at),
            expires_at=as_text(self.expires_at),
            metadata=self.metadata,
        )


def _changes(
    expires_at: datetime | _Absent | None, metadata: Mapping[str, Any] | _Absent | None
) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    if not isinstance(expires_at, _Absent):
        changed["expires_at"] = as_text(expires_at)
    if not isinstance(metadata, _Absent):
        changed["metadata"] = metadata
    return changed


def _time_or_absent(body: Mapping[str, Any], name: str) -> datetime | _Absent | None:
    return read.optional_time(body, name) if name in body else ABSENT


def _object_or_absent(body: Mapping[str, Any], name: str) -> Mapping[str, Any] | _Absent | None:
    return read.optional_object(body, name, MOST_OBJECT_BYTES) if name in body else ABSENT
