"""Drafts on their way into the store: checked, without secrets, unable to forge a header."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.text import clean, path_to
from molecule_grpc.memory import redaction, rendering
from molecule_grpc.memory.values import Draft

MAX_CONTENT_BYTES: Final = 100_000
MAX_METADATA_BYTES: Final = 16_384
MAX_NAMESPACE_CHARS: Final = 256
MAX_LABELS: Final = 32
MAX_TAG_BYTES: Final = 64
MAX_ENTITY_BYTES: Final = 128
MAX_LABEL_CHARS: Final = 50
KINDS: Final = ("fact", "summary", "checkpoint")
SOURCES: Final = ("agent", "runtime", "user")

_NAMESPACE = re.compile(r"[a-z]+:[A-Za-z0-9_:.-]+")
_MAX_REFERENCE_BYTES = 256

T = TypeVar("T")


class Text(NamedTuple):
    """The text of a memory as it is stored.

    Args:
        redactions: how many secrets were replaced, by label.
    """

    content: str
    sha256: bytes
    redactions: dict[str, int]


class Prepared(NamedTuple):
    """A draft as it is stored.

    Args:
        redactions: of all its fields, by label.
        metadata: JSON text of an object; None for none.
        id: None where the store shall make one.
    """

    author_id: UUID
    namespace: str
    content: str
    sha256: bytes
    redactions: dict[str, int]
    kind: str
    source: str
    tags: list[str]
    entities: list[str]
    label: str
    pinned: bool
    expires_at: datetime | None
    valid_from: datetime | None
    valid_to: datetime | None
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    id: UUID | None
    keep_duplicate: bool
    created_at: datetime | None


async def prepared(author_id: UUID, draft: Draft, now: datetime) -> Prepared:
    """Like `prepare`, in slices: a long text would keep the event loop for 60 ms."""
    return prepare(author_id, draft, now, await text_in_slices(draft.content))


def prepare(author_id: UUID, draft: Draft, now: datetime, written: Text | None = None) -> Prepared:
    """Check a draft, and take secrets and forged headers out of every field.

    Whether the author may write there is not asked.

    Args:
        written: the text as it is stored; None to make it here.

    Raises:
        Invalid: a field breaks its rule; RECALLED_TEXT: the text was recalled from a memory.
    """
    written = written or text(draft.content)
    found = Counter(written.redactions)
    _require_times(draft, now)
    return Prepared(
        author_id=author_id,
        namespace=namespace(draft.namespace or f"workspace:{author_id}"),
        content=written.content,
        sha256=written.sha256,
        kind=one_of(draft.kind or "fact", KINDS, "kind"),
        source=one_of(draft.source or "agent", SOURCES, "source"),
        tags=labels(draft.tags, "tags", MAX_TAG_BYTES, found),
        entities=labels(draft.entities, "entities", MAX_ENTITY_BYTES, found),
        label=label(draft.label or "general", found),
        pinned=draft.pinned,
        expires_at=draft.expires_at,
        valid_from=draft.valid_from,
        valid_to=draft.valid_to,
        delegation_id=reference(draft.delegation_id, found),
        file_id=draft.file_id,
        metadata=metadata(draft.metadata, found),
        id=draft.id,
        keep_duplicate=draft.keep_duplicate,
        created_at=None if draft.created_at is None else min(draft.created_at, now),
        redactions=dict(found),
    )


def text(content: str) -> Text:
    """A text as stored: checked, its secrets replaced, headers of recalled memories escaped.

    Raises:
        Invalid: it is blank, or longer than 100,000 bytes; RECALLED_TEXT.
    """
    return _finished(*redaction.redact(_checked(content)))


async def text_in_slices(content: str) -> Text:
    """Like `text`, in slices of about a millisecond."""
    return _finished(*await redaction.redact_in_slices(_checked(content)))


def _checked(content: str) -> str:
    """A text that may be stored, once it has no secrets."""
    content = clean(content)
    if not content.strip():
        raise Invalid("content is required", field="content")
    if len(content.encode()) > MAX_CONTENT_BYTES:
        raise _too_long("content", MAX_CONTENT_BYTES)
    if (origin := rendering.recalled_id(content)) is not None:
        raise Invalid(
            f"this text was recalled from memory {origin}: it is stored already",
            field="content",
            reason="RECALLED_TEXT",
            metadata={"memory_id": str(origin)},
        )
    return content


def _finished(content: str, found: dict[str, int]) -> Text:
    """A text without secrets as it is stored."""
    content = rendering.escape(content)
    if not content.strip():
        raise Invalid("content is required", field="content")
    if len(content.encode()) > MAX_CONTENT_BYTES:
        raise _too_long("content with its secrets replaced", MAX_CONTENT_BYTES)
    return Text(content, hashlib.sha256(content.encode()).digest(), found)


def namespace(name: str) -> str:
    """A name of a namespace.

    Raises:
        Invalid: it is none.
    """
    if len(name) > MAX_NAMESPACE_CHARS or _NAMESPACE.fullmatch(name) is None:
        raise Invalid(
            "namespace must be letters, a colon, and letters, digits or any of _ : . -",
            field="namespace",
        )
    return name


def labels(given: Sequence[str], field: str, most_bytes: int, found: Counter[str]) -> list[str]:
    """Tags or entities, each once, in their order.

    Args:
        found: counts the secrets that were replaced.

    Raises:
        Invalid: one is blank or too long, or there are more than 32.
    """
    if len(given) > MAX_LABELS:
        raise Invalid(f"{field} must be at most {MAX_LABELS}", field=field)
    return list(dict.fromkeys(_short(each, field, most_bytes, found) for each in given))


def label(given: str, found: Counter[str]) -> str:
    """The label of a memory; arguments and errors as for `labels`, at most 50 characters."""
    shown = _short(given, "label", 4 * MAX_LABEL_CHARS, found)
    if len(shown) > MAX_LABEL_CHARS:
        raise Invalid(f"label must be at most {MAX_LABEL_CHARS} characters", field="label")
    return shown


def require_expiry(expires_at: datetime | None, now: datetime) -> None:
    """Raise unless a memory can expire then.

    Raises:
        Invalid: the time is over.
    """
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at must be in the future", field="expires_at")


def _require_times(draft: Draft, now: datetime) -> None:
    require_expiry(draft.expires_at, now)
    begin = draft.valid_from or draft.created_at or now
    if draft.valid_to is not None and draft.valid_to <= begin:
        raise Invalid("valid_to must be after valid_from", field="valid_to")


def _short(given: str, field: str, most_bytes: int, found: Counter[str]) -> str:
    """A text of one line; secrets and headers replaced, and cut where that made it longer."""
    given = clean(given).strip()
    if not given:
        raise Invalid(f"{field} must not be blank", field=field)
    if len(given.encode()) > most_bytes:
        raise _too_long(field, most_bytes)
    redacted, counts = redaction.redact(given)
    found.update(counts)
    shown = rendering.escape(redacted)
    return shown.encode()[:most_bytes].decode(errors="ignore") if shown != given else shown


def metadata(given: str | None, found: Counter[str]) -> str | None:
    """JSON text of an object, without secrets and headers; arguments as for `labels`.

    Raises:
        Invalid: it is none, or longer than 16 KiB.
    """
    if given is None:
        return None
    if len(given.encode(errors="replace")) > MAX_METADATA_BYTES:
        raise _too_long("metadata", MAX_METADATA_BYTES)
    try:
        data = json.loads(given)
        if not isinstance(data, dict) or path_to(_is_unfit, data) is not None:
            raise _no_metadata()
        redacted, counts = redaction.redact_json(given)
        shown = rendering.escape_json(redacted)
    except (ValueError, RecursionError):
        raise _no_metadata() from None
    found.update(counts)
    return shown


def _is_unfit(part: object) -> bool:
    """Whether jsonb does not take a part of parsed JSON."""
    if isinstance(part, float):
        return not math.isfinite(part)
    return isinstance(part, str) and clean(part) != part


def _no_metadata() -> Invalid:
    return Invalid(
        "metadata must be a JSON object of finite numbers and whole characters", field="metadata"
    )


def reference(given: str | None, found: Counter[str]) -> str | None:
    """The id of a delegation, without secrets and headers; arguments as for `labels`.

    Raises:
        Invalid: it is longer than 256 bytes, or holds a NUL.
    """
    if not given or not given.strip():
        return None
    if "\x00" in given or len(given.encode(errors="replace")) > _MAX_REFERENCE_BYTES:
        raise Invalid("delegation_id must be the id of a delegation", field="delegation_id")
    return _short(given, "delegation_id", _MAX_REFERENCE_BYTES, found)


def one_of(given: str, allowed: Sequence[str], field: str) -> str:
    """A kind or a source.

    Raises:
        Invalid: it is none of those allowed.
    """
    if given not in allowed:
        raise Invalid(f"{field} must be one of {', '.join(allowed)}", field=field)
    return given


def _too_long(what: str, most: int) -> Invalid:
    return Invalid(f"{what} must be at most {most:,} bytes", field=what.partition(" ")[0])
