"""Memories as the tools show them: JSON in which unknown values are left out."""

from __future__ import annotations

from dataclasses import asdict

from molecule_grpc.faces.mcp.items import Json
from molecule_grpc.kernel.protos import rfc3339
from molecule_grpc.memory.scoped import ScopedMemory
from molecule_grpc.memory.search_values import Explained, Hit
from molecule_grpc.memory.values import Committed, Hygiene, MemoryRow, NamespaceAccess, VersionRow


def committed(done: Committed) -> Json:
    """What became of a draft."""
    answer: Json = {"id": str(done.id), "namespace": done.namespace}
    if done.unchanged:
        answer["unchanged"] = True
    if done.redactions:
        answer["redactions"] = done.redactions
    if done.similar:
        answer["similar"] = [
            {"id": str(each.id), "cosine": each.cosine, "shared_wording": each.shared_wording}
            for each in done.similar
        ]
    return answer


def hit(found: Hit) -> Json:
    """A hit of a search."""
    shown = memory(found.row)
    if found.score is not None:
        shown["score"] = found.score
    if found.explanation is not None:
        shown["explanation"] = asdict(found.explanation)
    if found.similar_ids:
        shown["similar_ids"] = list(map(str, found.similar_ids))
    return shown


def explained(result: Explained) -> Json:
    """Why a memory is, or is not, a hit."""
    answer: Json = {"found": result.found, "rank": result.rank}
    if result.score is not None:
        answer["score"] = result.score
    if result.explanation is not None:
        answer["explanation"] = asdict(result.explanation)
    return answer | ({"excluded_by": result.excluded_by} if result.excluded_by else {})


def memory(row: MemoryRow) -> Json:
    """A memory as JSON; unknown values are left out."""
    shown: Json = {
        "id": str(row.id),
        "namespace": row.namespace,
        "content": row.content,
        "kind": row.kind,
        "author_id": str(row.author_id or ""),
        "author_name": row.author_name or "",
        "created_at": rfc3339(row.created_at),
        "version": row.version,
    }
    times = {
        "expires_at": row.expires_at,
        "valid_to": row.valid_to,
    }
    optional = {
        "tags": row.tags,
        "entities": row.entities,
        "pinned": row.pinned,
        "supersedes": list(map(str, row.supersedes)),
        "superseded_by": str(row.superseded_by or ""),
        "delegation_id": row.delegation_id,
        "file_id": str(row.file_id or ""),
    }
    return (
        shown
        | {name: rfc3339(time) for name, time in times.items() if time is not None}
        | {name: value for name, value in optional.items() if value}
    )


def namespace(each: NamespaceAccess) -> Json:
    """A namespace, and whether the caller may write it."""
    return {
        "name": each.name,
        "kind": each.kind,
        "display_name": each.display_name,
        "description": each.description,
        "writable": each.writable,
    }


def version(row: VersionRow) -> Json:
    """One text of a chain."""
    shown: Json = {
        "memory_id": str(row.memory_id),
        "version": row.version,
        "content": row.content,
        "change": row.change,
        "author_id": str(row.author_id or ""),
        "known_from": rfc3339(row.known_from),
    }
    return shown | ({"known_to": rfc3339(row.known_to)} if row.known_to else {})


def hygiene(report: Hygiene) -> Json:
    """The report on a namespace."""
    findings = [
        asdict(each) | {"memory_ids": list(map(str, each.memory_ids))} for each in report.findings
    ]
    return report._asdict() | {"findings": findings}


def scoped(row: ScopedMemory) -> Json:
    """A memory as the tools for scopes show it."""
    return {
        "id": str(row.id),
        "content": row.content,
        "scope": row.scope,
        "created_at": rfc3339(row.created_at),
    }
