"""Values to responses."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from google.protobuf import struct_pb2
from google.rpc import status_pb2
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.json_values import put_value
from molecule_grpc.kernel.numbers import MARKED
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.memory.scoped import ScopedMemory
from molecule_grpc.memory.search_values import Explained, Explanation, Found, Hit
from molecule_grpc.memory.store.key_values import ValueRow
from molecule_grpc.memory.values import Committed, Hygiene, MemoryRow, NamespaceAccess, VersionRow
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render

_MAX_COUNT = 2**31 - 1


def namespace(entry: NamespaceAccess) -> memory_pb2.Namespace:
    """The proto of a namespace."""
    return memory_pb2.Namespace(
        name=entry.name,
        kind=entry.kind,
        display_name=entry.display_name,
        description=entry.description,
        writable=entry.writable,
        language=entry.language,
    )


def committed(done: Committed) -> memory_pb2.CommitResult:
    """The proto for the author of a memory."""
    return memory_pb2.CommitResult(
        id=str(done.id),
        namespace=done.namespace,
        unchanged=done.unchanged,
        similar=[
            memory_pb2.SimilarMemory(
                id=str(each.id), cosine=each.cosine, shared_wording=each.shared_wording
            )
            for each in done.similar
        ],
        redactions=redactions(done.redactions),
        embed_pending=done.embed_pending,
    )


def redactions(counts: dict[str, int]) -> list[memory_pb2.Redaction]:
    """The protos of replaced secrets, in the order of their labels."""
    return [
        memory_pb2.Redaction(label=label, count=count) for label, count in sorted(counts.items())
    ]


def outcome(done: Committed | MoleculeError) -> pb.BatchCommitMemoriesResponse.Outcome:
    """The proto of one draft's result or error in a batch."""
    if isinstance(done, MoleculeError):
        failure = render(done)
        status = status_pb2.Status.FromString(failure.details)
        return pb.BatchCommitMemoriesResponse.Outcome(error=status)
    return pb.BatchCommitMemoriesResponse.Outcome(result=committed(done))


async def memory(row: MemoryRow, call: Call, slices: Slices | None = None) -> memory_pb2.Memory:
    """The proto of a memory that was made fit for its reader."""
    message = memory_pb2.Memory(
        id=str(row.id),
        namespace=row.namespace,
        content=row.content,
        kind=row.kind,
        source=row.source,
        tags=row.tags,
        entities=row.entities,
        author_id=_text(row.author_id),
        author_name=row.author_name or "",
        pinned=row.pinned,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        expires_at=timestamp(row.expires_at),
        valid_from=timestamp(row.valid_from),
        valid_to=timestamp(row.valid_to),
        supersedes=map(str, row.supersedes),
        superseded_by=_text(row.superseded_by),
        version=row.version,
        delegation_id=row.delegation_id or "",
        file_id=_text(row.file_id),
        embed_state=row.embed_state,
    )
    if row.metadata is not None:
        whole = struct_pb2.Value()
        if await put_value(whole, row.metadata, slices or Slices(), mark=call.rest) and call.rest:
            call.headers[MARKED] = "1"
        message.metadata.CopyFrom(whole.struct_value)
    return message


async def found(result: Found, call: Call) -> pb.SearchMemoriesResponse:
    """The proto of what a search found."""
    slices = Slices()
    return pb.SearchMemoriesResponse(
        memories=[await _hit(each, call, slices) async for each in slices.each(result.hits)],
        mode_used=result.mode_used,
        searched_namespaces=result.searched_namespaces,
        embed_pending=min(result.embed_pending, _MAX_COUNT),
        confidence=result.confidence,
        next_page_token=result.next_page_token,
        limit=result.limit,
        degraded=result.degraded,
    )


async def _hit(hit: Hit, call: Call, slices: Slices) -> memory_pb2.Memory:
    message = await memory(hit.row, call, slices)
    if hit.score is not None:
        message.score = hit.score
    if hit.explanation is not None:
        message.explanation.CopyFrom(explanation(hit.explanation))
    message.similar_ids.extend(map(str, hit.similar_ids))
    return message


def explanation(why: Explanation) -> memory_pb2.Explanation:
    """The proto of why a memory ranks where it ranks."""
    return memory_pb2.Explanation(
        semantic=why.semantic,
        lexical=why.lexical,
        matched_words=why.matched_words,
        exact=why.exact,
        age_seconds=why.age_seconds,
        recency_factor=why.recency_factor,
        namespace_rule=why.namespace_rule,
        reason=why.reason,
    )


def explained(result: Explained) -> pb.ExplainMemoryResponse:
    """The proto of why a memory is, or is not, a hit."""
    return pb.ExplainMemoryResponse(
        found=result.found,
        rank=result.rank,
        score=result.score,
        explanation=None if result.explanation is None else explanation(result.explanation),
        excluded_by=result.excluded_by,
    )


def version(row: VersionRow) -> memory_pb2.MemoryVersion:
    """The proto of one text of a chain."""
    return memory_pb2.MemoryVersion(
        memory_id=str(row.memory_id),
        version=row.version,
        content=row.content,
        change=row.change,
        author_id=_text(row.author_id),
        known_from=timestamp(row.known_from),
        known_to=timestamp(row.known_to),
    )


def hygiene(report: Hygiene) -> pb.GetMemoryHygieneResponse:
    """The proto of the report on a namespace."""
    return pb.GetMemoryHygieneResponse(
        namespace=report.namespace,
        memories=min(report.memories, _MAX_COUNT),
        bytes=min(report.bytes, _MAX_COUNT),
        redacted_share=report.redacted_share,
        findings=[
            memory_pb2.HygieneFinding(
                problem=each.problem,
                memory_ids=map(str, each.memory_ids),
                detail=each.detail,
                remedy=each.remedy,
                count=min(each.count, _MAX_COUNT),
            )
            for each in report.findings
        ],
    )


def scoped(rows: Sequence[ScopedMemory]) -> list[memory_pb2.ScopedMemory]:
    """Memories for clients that know scopes."""
    return [
        memory_pb2.ScopedMemory(
            id=str(row.id),
            workspace_id=_text(row.author_id),
            content=row.content,
            scope=row.scope,
            namespace=row.label,
            created_at=timestamp(row.created_at),
            similarity_score=row.similarity,
        )
        for row in rows
    ]


async def entry(row: ValueRow, call: Call, slices: Slices | None = None) -> memory_pb2.ValueEntry:
    """The proto of a key with its value: with every digit of its integers."""
    message = memory_pb2.ValueEntry(
        key=row.key,
        version=row.version,
        expires_at=timestamp(row.expires_at),
        updated_at=timestamp(row.updated_at),
    )
    long = await put_value(message.value, row.value, slices or Slices(), mark=call.rest)
    if long and call.rest:
        call.headers[MARKED] = "1"
    elif long:
        message.value_json = row.value
    return message


def _text(identity: UUID | None) -> str:
    return "" if identity is None else str(identity)
