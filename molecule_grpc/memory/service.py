"""MemoryService: every RPC, converted to the use case that serves it and back."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb
from moleculeai.memory.v1.memory_service_handlers import MemoryServiceHandlers

from molecule_grpc.kernel.errors import Invalid, MoleculeError
from molecule_grpc.kernel.page import messages_of, page_in_slices
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.kernel.text import clean
from molecule_grpc.memory.conversion import requests as asked
from molecule_grpc.memory.conversion import responses as told
from molecule_grpc.memory.key_values import KeyValues
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.opaque_ids import memory_id
from molecule_grpc.memory.scoped import DEFAULT_LABEL, ScopedMemories
from molecule_grpc.memory.values import Committed, Draft
from molecule_grpc.server.call import Call
from molecule_grpc.server.validation import Validator

_BATCH_BYTES = 1024 * 1024


class MemoryService:
    """Serves `moleculeai.memory.v1.MemoryService`."""

    def __init__(self, memories: Memories, scoped: ScopedMemories, values: KeyValues) -> None:
        self._memories = memories
        self._scoped = scoped
        self._values = values
        # What the pipeline leaves out: drafts that fail alone, and searches without a reader.
        self._rules = Validator([pb.SearchMemoriesRequest, memory_pb2.MemoryDraft])

    async def CommitMemory(
        self, request: pb.CommitMemoryRequest, call: Call
    ) -> memory_pb2.CommitResult:
        draft = await asked.draft(request.memory, call)
        return told.committed(await self._memories.commit(UUID(request.workspace_id), draft))

    async def BatchCommitMemories(
        self, request: pb.BatchCommitMemoriesRequest, call: Call
    ) -> pb.BatchCommitMemoriesResponse:
        if request.ByteSize() > _BATCH_BYTES:
            raise Invalid("memories must be at most 1 MiB in all", field="memories")
        drafts: list[Draft | MoleculeError] = []
        for place, each in enumerate(request.memories):
            try:
                self._rules.check(each)
                drafts.append(await asked.draft(each, call, f"memories[{place}]"))
            except Invalid as error:
                drafts.append(error)
        whole = [draft for draft in drafts if isinstance(draft, Draft)]
        done = iter(await self._memories.commit_batch(UUID(request.workspace_id), whole))
        outcomes: list[Committed | MoleculeError] = [
            next(done) if isinstance(draft, Draft) else draft for draft in drafts
        ]
        return pb.BatchCommitMemoriesResponse(outcomes=map(told.outcome, outcomes))

    async def CommitSummary(
        self, request: pb.CommitSummaryRequest, call: Call
    ) -> memory_pb2.CommitResult:
        draft = await asked.draft(request.memory, call)
        return told.committed(
            await self._memories.commit_summary(UUID(request.workspace_id), draft)
        )

    async def SearchMemories(
        self, request: pb.SearchMemoriesRequest, call: Call
    ) -> pb.SearchMemoriesResponse:
        found = await self._memories.search(UUID(request.workspace_id), asked.query(request))
        return await told.found(found, call)

    async def ExplainMemory(
        self, request: pb.ExplainMemoryRequest, call: Call
    ) -> pb.ExplainMemoryResponse:
        search = asked.explained_search(request)
        self._rules.check(search)
        explained = await self._memories.explain(
            UUID(request.workspace_id), memory_id(request.memory_id), asked.query(search)
        )
        return told.explained(explained)

    async def GetMemory(self, request: pb.GetMemoryRequest, call: Call) -> memory_pb2.Memory:
        row = await self._memories.get(UUID(request.workspace_id), memory_id(request.memory_id))
        return await told.memory(row, call)

    async def GetMemoryHistory(
        self, request: pb.GetMemoryHistoryRequest, call: Call
    ) -> pb.GetMemoryHistoryResponse:
        rows, more = await self._memories.history(
            UUID(request.workspace_id), memory_id(request.memory_id)
        )
        page = await page_in_slices(
            map(told.version, rows), limit=len(rows), size=memory_pb2.MemoryVersion.ByteSize
        )
        return pb.GetMemoryHistoryResponse(versions=page.rows, truncated=more or page.more)

    async def UpdateMemory(
        self, request: pb.UpdateMemoryRequest, call: Call
    ) -> pb.UpdateMemoryResponse:
        done = await self._memories.update(
            UUID(request.workspace_id), memory_id(request.memory_id), asked.change(request)
        )
        return pb.UpdateMemoryResponse(
            id=str(done.id),
            namespace=done.namespace,
            version=done.version,
            changed=done.changed,
            redactions=told.redactions(done.redactions),
        )

    async def SupersedeMemory(
        self, request: pb.SupersedeMemoryRequest, call: Call
    ) -> memory_pb2.CommitResult:
        done = await self._memories.supersede(
            UUID(request.workspace_id),
            memory_id(request.memory_id),
            await asked.draft(request.memory, call),
        )
        return told.committed(done)

    async def ForgetMemory(
        self, request: pb.ForgetMemoryRequest, call: Call
    ) -> pb.ForgetMemoryResponse:
        removed = await self._memories.forget(
            UUID(request.workspace_id), memory_id(request.memory_id), request.namespace
        )
        return pb.ForgetMemoryResponse(status="deleted", removed=removed)

    async def ConsolidateMemories(
        self, request: pb.ConsolidateMemoriesRequest, call: Call
    ) -> pb.ConsolidateMemoriesResponse:
        done = await self._memories.consolidate(
            UUID(request.workspace_id),
            [UUID(text) for text in request.memory_ids],
            await asked.draft(request.memory, call),
            dry_run=request.dry_run,
        )
        return pb.ConsolidateMemoriesResponse(
            result=None if done.result is None else told.committed(done.result),
            superseded=map(str, done.superseded),
        )

    async def UndoConsolidation(
        self, request: pb.UndoConsolidationRequest, call: Call
    ) -> pb.UndoConsolidationResponse:
        restored = await self._memories.undo(
            UUID(request.workspace_id), memory_id(request.memory_id)
        )
        return pb.UndoConsolidationResponse(restored=map(str, restored))

    async def ListNamespaces(
        self, request: pb.ListNamespacesRequest, call: Call
    ) -> pb.ListNamespacesResponse:
        access = await self._memories.access_with_languages(UUID(request.workspace_id))
        return pb.ListNamespacesResponse(
            readable=map(told.namespace, access.namespaces),
            writable=[told.namespace(each) for each in access.namespaces if each.writable],
        )

    async def SetNamespaceLanguage(
        self, request: pb.SetNamespaceLanguageRequest, call: Call
    ) -> pb.SetNamespaceLanguageResponse:
        namespace = request.namespace or f"workspace:{request.workspace_id}"
        reindexed = await self._memories.set_language(
            UUID(request.workspace_id), namespace, request.language
        )
        return pb.SetNamespaceLanguageResponse(
            namespace=namespace, language=request.language, reindexed=reindexed
        )

    async def GetMemoryHygiene(
        self, request: pb.GetMemoryHygieneRequest, call: Call
    ) -> pb.GetMemoryHygieneResponse:
        report = await self._memories.hygiene(UUID(request.workspace_id), request.namespace)
        return told.hygiene(report)

    async def CommitScopedMemory(
        self, request: pb.CommitScopedMemoryRequest, call: Call
    ) -> pb.CommitScopedMemoryResponse:
        label = clean(request.namespace) or DEFAULT_LABEL
        done = await self._scoped.commit(
            UUID(request.workspace_id), clean(request.content), request.scope, label
        )
        return pb.CommitScopedMemoryResponse(id=str(done.id), scope=request.scope, namespace=label)

    async def ListScopedMemories(
        self, request: pb.ListScopedMemoriesRequest, call: Call
    ) -> pb.ListScopedMemoriesResponse:
        rows = await self._scoped.list_rows(
            UUID(request.workspace_id),
            text=clean(request.q),
            scope=request.scope,
            label=clean(request.namespace),
            limit=request.limit,
        )
        return pb.ListScopedMemoriesResponse(memories=told.scoped(rows))

    async def UpdateScopedMemory(
        self, request: pb.UpdateScopedMemoryRequest, call: Call
    ) -> pb.UpdateScopedMemoryResponse:
        done = await self._scoped.update(
            UUID(request.workspace_id),
            memory_id(request.memory_id),
            content=clean(request.content) if request.HasField("content") else None,
            label=clean(request.namespace) if request.HasField("namespace") else None,
        )
        return pb.UpdateScopedMemoryResponse(
            id=str(done.id), scope=done.scope, namespace=done.label, changed=done.changed
        )

    async def DeleteScopedMemory(
        self, request: pb.DeleteScopedMemoryRequest, call: Call
    ) -> pb.DeleteScopedMemoryResponse:
        await self._scoped.forget(UUID(request.workspace_id), memory_id(request.memory_id))
        return pb.DeleteScopedMemoryResponse(status="deleted")

    async def ListValues(self, request: pb.ListValuesRequest, call: Call) -> pb.ListValuesResponse:
        page = await self._values.list_page(
            UUID(request.workspace_id), limit=request.limit, page_token=request.page_token
        )
        slices = Slices()
        entries = [await told.entry(row, call, slices) for row in page.rows]
        made = iter(entries)
        shown = await messages_of(page, lambda _: next(made), memory_pb2.ValueEntry.ByteSize)
        if shown.last is not None:
            call.headers["x-next-page-token"] = self._values.token_after(shown.last)
        return pb.ListValuesResponse(entries=shown.messages)

    async def GetValue(self, request: pb.GetValueRequest, call: Call) -> memory_pb2.ValueEntry:
        row = await self._values.get(UUID(request.workspace_id), request.key)
        return await told.entry(row, call)

    async def SetValue(self, request: pb.SetValueRequest, call: Call) -> pb.SetValueResponse:
        done = await self._values.set(
            UUID(request.workspace_id),
            request.key,
            await asked.json_value(request.value, "value", call),
            ttl_seconds=request.ttl_seconds if request.HasField("ttl_seconds") else None,
            if_version=asked.if_version(request),
        )
        return pb.SetValueResponse(status="ok", key=done.key, version=done.version)

    async def DeleteValue(
        self, request: pb.DeleteValueRequest, call: Call
    ) -> pb.DeleteValueResponse:
        await self._values.delete(
            UUID(request.workspace_id),
            request.key,
            if_version=asked.if_version(request),
        )
        return pb.DeleteValueResponse(status="deleted")


def handlers(service: MemoryServiceHandlers) -> tuple[ServiceDescriptor, object]:
    """The service with its descriptor. An RPC without a handler is a type error where called."""
    return pb.DESCRIPTOR.services_by_name["MemoryService"], service
