"""How often tools ran. The names stand here, so that zeros are exported before the tools load."""

from __future__ import annotations

import itertools

from prometheus_client import Counter

CALLS = Counter(
    "molecule_mcp_tool_calls_total", "Tools that agents ran over MCP.", ["tool", "outcome"]
)

SPEAKING = "send_message_to_user"
TOOLS = (
    "list_peers",
    "delegate_task",
    "delegate_task_async",
    "check_task_status",
    "update_task_status",
    "commit_memory_v2",
    "commit_summary",
    "update_memory",
    "consolidate_memories",
    "undo_consolidation",
    "forget_memory",
    "search_memory",
    "explain_memory",
    "get_memory",
    "memory_history",
    "list_writable_namespaces",
    "list_readable_namespaces",
    "memory_hygiene",
    "commit_memory",
    "recall_memory",
    "wait_for_message",
    "inbox_peek",
    "inbox_pop",
    "chat_history",
)


def show_zeros(*, speaks: bool) -> None:
    """Export every tool's counts from the start on.

    Args:
        speaks: whether agents may speak to the human.
    """
    names = (*TOOLS, SPEAKING) if speaks else TOOLS
    for tool, outcome in itertools.product(names, ("done", "failed")):
        CALLS.labels(tool, outcome)
