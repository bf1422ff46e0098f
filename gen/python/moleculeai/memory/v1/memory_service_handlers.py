"""Generated from moleculeai/memory/v1/memory_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from moleculeai.memory.v1 import memory_pb2
    from moleculeai.memory.v1 import memory_service_pb2

    from molecule_grpc.server.call import Call


class MemoryServiceHandlers(Protocol):
    """MemoryService stores texts in namespaces that follow the tree of workspaces, and finds them by
    word and by meaning. Who may read and write a namespace is derived from the tree at each call.
    """

    async def CommitMemory(
        self,
        request: memory_service_pb2.CommitMemoryRequest,
        call: Call,
    ) -> memory_pb2.CommitResult:
        """CommitMemory stores a memory. The same text in the same namespace is stored once: the answer is
        `unchanged`, so that a repeat is harmless, unless it has `keep_duplicate` and no `id`. The stored
        one then lasts as long as the longer of both asks. Fails with WORKSPACE_NOT_FOUND,
        NAMESPACE_NOT_WRITABLE (403), RECALLED_TEXT (400), MEMORY_ID_TAKEN (409), MEMORY_SUPERSEDED (409)
        if the memory with this id was replaced, QUOTA_EXCEEDED (429), or UNAVAILABLE (503) while an
        expired namespace of this name is deleted.
        """
        ...

    async def BatchCommitMemories(
        self,
        request: memory_service_pb2.BatchCommitMemoriesRequest,
        call: Call,
    ) -> memory_service_pb2.BatchCommitMemoriesResponse:
        """BatchCommitMemories stores up to 100 memories, each on its own: a bad one fails alone."""
        ...

    async def CommitSummary(
        self,
        request: memory_service_pb2.CommitSummaryRequest,
        call: Call,
    ) -> memory_pb2.CommitResult:
        """CommitSummary stores a memory of kind summary that expires in 30 days unless `expires_at` is
        given. Fails and repeats like CommitMemory.
        """
        ...

    async def SearchMemories(
        self,
        request: memory_service_pb2.SearchMemoriesRequest,
        call: Call,
    ) -> memory_service_pb2.SearchMemoriesResponse:
        """SearchMemories finds memories that hold now, or held at `as_of`, best first; without a query the
        pinned and then the newest ones. Namespaces that the workspace cannot read are left out silently:
        `searched_namespaces` says what was searched.
        """
        ...

    async def ExplainMemory(
        self,
        request: memory_service_pb2.ExplainMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.ExplainMemoryResponse:
        """ExplainMemory says why a memory is, or is not, among the hits of a search. Fails with
        MEMORY_NOT_FOUND for a memory that the workspace cannot read.
        """
        ...

    async def GetMemory(
        self,
        request: memory_service_pb2.GetMemoryRequest,
        call: Call,
    ) -> memory_pb2.Memory:
        """GetMemory returns a memory, a superseded one too. Fails with MEMORY_NOT_FOUND."""
        ...

    async def GetMemoryHistory(
        self,
        request: memory_service_pb2.GetMemoryHistoryRequest,
        call: Call,
    ) -> memory_service_pb2.GetMemoryHistoryResponse:
        """GetMemoryHistory returns the texts of a memory and of those that it replaced and was replaced by,
        oldest first, at most 1,000. Fails with MEMORY_NOT_FOUND.
        """
        ...

    async def UpdateMemory(
        self,
        request: memory_service_pb2.UpdateMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.UpdateMemoryResponse:
        """UpdateMemory changes a memory in place: id and creation time stay, the earlier text goes to the
        history. What is given is changed; with `update_mask` what it names, and a time that it names and
        that is not given is cleared. Without a change nothing is written. Fails with MEMORY_NOT_FOUND,
        NAMESPACE_NOT_WRITABLE, MEMORY_SUPERSEDED (409), RECALLED_TEXT, QUOTA_EXCEEDED, or MEMORY_CHANGED
        (409) if `if_version` is given and is not the memory's version. A repeat is harmless.
        """
        ...

    async def SupersedeMemory(
        self,
        request: memory_service_pb2.SupersedeMemoryRequest,
        call: Call,
    ) -> memory_pb2.CommitResult:
        """SupersedeMemory stores a memory in the place of another one, which search no longer shows and
        history keeps. Fails with MEMORY_SUPERSEDED (409) and the id of the other replacement if there is
        one; a repeat with the same text returns the first result.
        """
        ...

    async def ForgetMemory(
        self,
        request: memory_service_pb2.ForgetMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.ForgetMemoryResponse:
        """ForgetMemory removes a memory for good: text, history and vectors. What stays is an entry of the
        record with its SHA-256. Fails with MEMORY_NOT_FOUND, also on a repeat, and with
        NAMESPACE_NOT_WRITABLE for a memory that the workspace can only read.
        """
        ...

    async def ConsolidateMemories(
        self,
        request: memory_service_pb2.ConsolidateMemoriesRequest,
        call: Call,
    ) -> memory_service_pb2.ConsolidateMemoriesResponse:
        """ConsolidateMemories replaces several memories of one namespace by one text that the agent wrote.
        The originals are superseded together or not at all. A repeat returns the first result. Fails like
        SupersedeMemory, and with INVALID_ARGUMENT if the memories are of several namespaces.
        """
        ...

    async def UndoConsolidation(
        self,
        request: memory_service_pb2.UndoConsolidationRequest,
        call: Call,
    ) -> memory_service_pb2.UndoConsolidationResponse:
        """UndoConsolidation brings back the originals of a consolidated memory, and forgets that one. Fails
        with MEMORY_NOT_FOUND, also on a repeat.
        """
        ...

    async def ListNamespaces(
        self,
        request: memory_service_pb2.ListNamespacesRequest,
        call: Call,
    ) -> memory_service_pb2.ListNamespacesResponse:
        """ListNamespaces lists the namespaces that the workspace can read and write now."""
        ...

    async def SetNamespaceLanguage(
        self,
        request: memory_service_pb2.SetNamespaceLanguageRequest,
        call: Call,
    ) -> memory_service_pb2.SetNamespaceLanguageResponse:
        """SetNamespaceLanguage says in which language a namespace's words are to be found, and indexes its
        texts anew. A repeat finishes what a failure left, and changes nothing else. Fails with
        NAMESPACE_NOT_FOUND (404) for a namespace that the workspace cannot read, and with
        NAMESPACE_NOT_WRITABLE (403) for one that it can only read.
        """
        ...

    async def GetMemoryHygiene(
        self,
        request: memory_service_pb2.GetMemoryHygieneRequest,
        call: Call,
    ) -> memory_service_pb2.GetMemoryHygieneResponse:
        """GetMemoryHygiene reports what the agents of a namespace may want to mend. Fails with
        NAMESPACE_NOT_FOUND (404) for a namespace that the workspace cannot read.
        """
        ...

    async def CommitScopedMemory(
        self,
        request: memory_service_pb2.CommitScopedMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.CommitScopedMemoryResponse:
        """CommitScopedMemory stores a memory for clients that know scopes: LOCAL is the workspace's own
        namespace, TEAM its parent's team, GLOBAL the whole tree, which only a root may write
        (GLOBAL_NEEDS_ROOT, 403). Fails and repeats like CommitMemory.
        """
        ...

    async def ListScopedMemories(
        self,
        request: memory_service_pb2.ListScopedMemoriesRequest,
        call: Call,
    ) -> memory_service_pb2.ListScopedMemoriesResponse:
        """ListScopedMemories finds memories for clients that know scopes: best first with `q`, else newest
        first, pinned ones among them in any case. Without a scope it returns the workspace's own rows.
        """
        ...

    async def UpdateScopedMemory(
        self,
        request: memory_service_pb2.UpdateScopedMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.UpdateScopedMemoryResponse:
        """UpdateScopedMemory changes the text or the label of a memory that the workspace wrote. Without a
        change nothing is written. Fails with MEMORY_NOT_FOUND.
        """
        ...

    async def DeleteScopedMemory(
        self,
        request: memory_service_pb2.DeleteScopedMemoryRequest,
        call: Call,
    ) -> memory_service_pb2.DeleteScopedMemoryResponse:
        """DeleteScopedMemory forgets a memory that the workspace wrote. Fails with MEMORY_NOT_FOUND, also on
        a repeat.
        """
        ...

    async def ListValues(
        self,
        request: memory_service_pb2.ListValuesRequest,
        call: Call,
    ) -> memory_service_pb2.ListValuesResponse:
        """ListValues lists a workspace's keys that have not expired, in order. If there are more, the
        response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def GetValue(
        self,
        request: memory_service_pb2.GetValueRequest,
        call: Call,
    ) -> memory_pb2.ValueEntry:
        """GetValue returns one key. Fails with KEY_NOT_FOUND, also when the key has expired."""
        ...

    async def SetValue(
        self,
        request: memory_service_pb2.SetValueRequest,
        call: Call,
    ) -> memory_service_pb2.SetValueResponse:
        """SetValue writes a key. With `if_match_version` only if the key has that version, 0 meaning that
        the key must be absent: VERSION_MISMATCH (409) otherwise, with `expected_version` and
        `current_version` in metadata and REST body. Without it the last write wins, and a repeat writes
        the same value under the next version. Fails with QUOTA_EXCEEDED if the workspace has 1,000 keys.
        """
        ...

    async def DeleteValue(
        self,
        request: memory_service_pb2.DeleteValueRequest,
        call: Call,
    ) -> memory_service_pb2.DeleteValueResponse:
        """DeleteValue deletes a key. Repeating a call is harmless. With `if_match_version` only if the key
        has that version: VERSION_MISMATCH (409) otherwise.
        """
        ...
