"""What each tool for memories takes; see `arguments`."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from molecule_grpc.faces.mcp.arguments import Arguments, Id, bytes_up_to

_CONTENT_BYTES = 100_000
_NAMESPACE_BYTES = 256
_QUERY_BYTES = 8192

Content = Annotated[
    str, Field(min_length=1, max_length=_CONTENT_BYTES), bytes_up_to(_CONTENT_BYTES)
]
Namespace = Annotated[str, Field(max_length=_NAMESPACE_BYTES), bytes_up_to(_NAMESPACE_BYTES)]
Tag = Annotated[str, Field(min_length=1, max_length=64), bytes_up_to(64)]
Entity = Annotated[str, Field(min_length=1, max_length=128), bytes_up_to(128)]
Time = Annotated[str, Field(max_length=64)]
Kind = Literal["fact", "summary", "checkpoint"]

_OWN = "Where to: a name of list_writable_namespaces; your private one unless given."
_ID = "The memory: its `id`."


class CommitMemory(Arguments):
    """Of commit_memory_v2."""

    content: Content = Field(description="What to remember, in one self-contained statement.")
    namespace: Namespace = Field("", description=_OWN)
    kind: Kind = Field("fact", description="fact, summary or checkpoint.")
    expires_at: Time = Field("", description="RFC 3339 time from which nobody can read it.")
    pin: bool = Field(default=False, description="Show it first in lists without a query.")
    tags: list[Tag] = Field([], max_length=32, description="Labels to filter by.")
    entities: list[Entity] = Field([], max_length=32, description="What it is about, by name.")
    delegation_id: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "", description="The task that it came from: its `task_id`."
    )
    file_id: UUID | None = Field(None, description="The uploaded file that it came from.")
    supersedes: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "", description="Id of the memory that no longer holds; it stays in the history alone."
    )


class CommitSummary(Arguments):
    """Of commit_summary."""

    content: Content = Field(description="The summary.")
    namespace: Namespace = Field("", description=_OWN)
    expires_at: Time = Field("", description="RFC 3339 time; in 30 days unless given.")


class SearchMemory(Arguments):
    """Of search_memory."""

    query: Annotated[str, Field(max_length=_QUERY_BYTES), bytes_up_to(_QUERY_BYTES)] = Field(
        "", description="A question, words or an identifier; empty lists the newest."
    )
    namespaces: list[Namespace] = Field(
        [], max_length=64, description="Where to look; everywhere that you can read unless given."
    )
    kinds: list[Kind] = Field([], max_length=3, description="Only these kinds.")
    tags: list[Tag] = Field([], max_length=32, description="Only with all of these tags.")
    entities: list[Entity] = Field(
        [], max_length=32, description="Only about all of these, by name."
    )
    author_id: UUID | None = Field(None, description="Only what this workspace wrote.")
    created_after: Time = Field("", description="Only committed at this RFC 3339 time or later.")
    created_before: Time = Field("", description="Only committed before this RFC 3339 time.")
    min_score: float = Field(
        0,
        ge=-2,
        le=4,
        allow_inf_nan=False,
        description="Leave out smaller scores; 0 leaves none out.",
    )
    explain: bool = Field(default=False, description="Say of each where its score comes from.")
    limit: int = Field(20, ge=0, le=100, description="Most memories to return; 0 means 20.")
    mode: Literal["", "hybrid", "semantic", "lexical", "recent"] = Field(
        "", description="How to search; hybrid unless given."
    )
    as_of: Time = Field("", description="RFC 3339 time: what was held and known then.")
    delegation_id: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "", description="Only what came from this task: its `task_id`."
    )
    file_id: UUID | None = Field(None, description="Only what came from this uploaded file.")
    page_token: Annotated[str, Field(max_length=1024)] = Field(
        "", description="next_page_token of the answer before."
    )


class ExplainMemory(Arguments):
    """Of explain_memory."""

    memory_id: Id = Field(description=_ID)
    query: Annotated[str, Field(max_length=_QUERY_BYTES), bytes_up_to(_QUERY_BYTES)] = Field(
        description="The search to explain."
    )
    namespaces: list[Namespace] = Field(
        [], max_length=64, description="Where it looks; everywhere that you can read unless given."
    )


class ForgetMemory(Arguments):
    """Of forget_memory."""

    memory_id: Id = Field(description=_ID)
    namespace: Namespace = Field(
        "", description="Only if it is there; any that you can write unless given."
    )


class NoArguments(Arguments):
    """Of list_writable_namespaces and list_readable_namespaces."""


class OneMemory(Arguments):
    """Of get_memory, memory_history and undo_consolidation."""

    memory_id: Id = Field(description=_ID)


class UpdateMemory(Arguments):
    """Of update_memory."""

    memory_id: Id = Field(description=_ID)
    content: Annotated[str, Field(max_length=_CONTENT_BYTES), bytes_up_to(_CONTENT_BYTES)] = Field(
        "", description="The new text; the old one goes to the history."
    )
    tags: list[Tag] | None = Field(None, max_length=32, description="All tags, from now on.")
    pin: bool | None = Field(None, description="Show it first in lists without a query.")
    valid_to: Time = Field("", description="RFC 3339 time until which it holds.")
    clear: list[Literal["expires_at", "valid_from", "valid_to"]] = Field(
        [], max_length=3, description="Times to take away: it then holds, or stays, for ever."
    )


class ConsolidateMemories(Arguments):
    """Of consolidate_memories."""

    memory_ids: list[Id] = Field(
        min_length=2, max_length=100, description="The memories, all of one namespace."
    )
    content: Content = Field(description="What takes their place, in your own words.")
    dry_run: bool = Field(default=False, description="Only say what would happen.")


class MemoryHygiene(Arguments):
    """Of memory_hygiene."""

    namespace: Namespace = Field("", description="Which one; your private one unless given.")


class CommitScoped(Arguments):
    """Of commit_memory. The scope is checked by the tool, which explains a refusal."""

    content: Content = Field(description="What to remember.")
    scope: Annotated[str, Field(max_length=16)] = Field(
        "", description="LOCAL, for yourself, or TEAM; LOCAL unless given."
    )


class RecallScoped(Arguments):
    """Of recall_memory."""

    query: Annotated[str, Field(max_length=_QUERY_BYTES), bytes_up_to(_QUERY_BYTES)] = Field(
        "", description="What to look for; empty lists the newest."
    )
    scope: Annotated[str, Field(max_length=16)] = Field(
        "", description="LOCAL, TEAM, or empty for all that you can read."
    )
