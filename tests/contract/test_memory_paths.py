"""Which modules may write or read texts of memories, checked by the imports in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import Message
from moleculeai.memory.v1 import memory_pb2

from tools.descriptors import Contract, Rpc

ROOT = Path(__file__).parents[2]
MEMORY = ROOT / "molecule_grpc" / "memory"

# RPCs that store texts of memories, and the use case through which each of them does.
WRITES = {
    "CommitMemory": "commit",
    "BatchCommitMemories": "commit_batch",
    "CommitSummary": "commit",
    "SupersedeMemory": "supersede",
    "ConsolidateMemories": "consolidate",
    "CommitScopedMemory": "commit",
    "UpdateMemory": "update",
    "UpdateScopedMemory": "update",
    "ImportMemories": "commit",
    "CreateWorkspace": "commit",
    "CallMcp": "commit",
}
# RPCs whose answers hold texts of memories that an agent reads.
READS = {
    "SearchMemories",
    "GetMemory",
    "GetMemoryHistory",
    "ListScopedMemories",
    "SearchSession",
    "CallMcp",
}
# Answers about memories without a text of one.
WITHOUT_TEXT = {
    "ExplainMemory",
    "GetMemoryHygiene",
    "ListNamespaces",
    "SetNamespaceLanguage",
    "ForgetMemory",
    "UndoConsolidation",
    "DeleteScopedMemory",
}
# Values of keys are a workspace's own, and no memories.
KEYS = {"ListValues", "GetValue", "SetValue", "DeleteValue"}


def imports_of(path: Path) -> set[str]:
    """The modules of the memory slice that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def sources() -> Iterator[Path]:
    yield from sorted((ROOT / "molecule_grpc").rglob("*.py"))


def importers(module: str) -> set[str]:
    """The files that import a module, relative to the slice or the program."""
    return {
        str(path.relative_to(MEMORY if MEMORY in path.parents else ROOT))
        for path in sources()
        if f"molecule_grpc.memory.{module}" in imports_of(path)
    }


def test_every_rpc_about_memories_is_on_one_of_the_lists(contract: Contract) -> None:
    """A new RPC is put down as a write, a read, or neither, by hand."""
    ours = {rpc.name for rpc in contract.rpcs() if rpc.service.endswith("MemoryService")}
    assert ours == {
        name
        for name in {*WRITES, *READS, *WITHOUT_TEXT, *KEYS}
        if name not in {"ImportMemories", "CreateWorkspace", "CallMcp", "SearchSession"}
    }


def test_every_answer_with_a_memory_is_on_the_list_of_reads(contract: Contract) -> None:
    """Found by the types of the answers: whoever adds one must render it."""
    kinds: list[type[Message]] = [
        memory_pb2.Memory,
        memory_pb2.MemoryVersion,
        memory_pb2.ScopedMemory,
    ]
    names = {kind.DESCRIPTOR.full_name for kind in kinds}

    def holds(rpc: Rpc) -> bool:
        output = rpc.method.output_type
        parts = [field.message_type for field in output.fields if field.message_type]
        return any(each.full_name in names for each in (output, *parts))

    found = {rpc.name for rpc in contract.rpcs() if holds(rpc)}
    assert found == READS - {"SearchSession", "CallMcp"}


def test_only_the_writers_know_the_statements_that_write_texts() -> None:
    """`commits`, `chains` and `changes` write; every surface calls them through a port."""
    assert importers("store.commits") <= {
        "commits.py", "chains.py", "changes.py", "items.py", "refusals.py",
    }  # fmt: skip


def test_what_is_written_has_been_prepared() -> None:
    """Redaction and escaping are in `drafting`, and whoever writes texts calls it."""
    for name in ("commits.py", "chains.py", "changes.py", "plugin/memories.py"):
        assert any("drafting" in each for each in imports_of(MEMORY / name)), name
    drafting = imports_of(MEMORY / "drafting.py")
    assert {"molecule_grpc.memory.redaction", "molecule_grpc.memory.rendering"} <= drafting


@pytest.mark.parametrize("face", ["service.py", "../faces/mcp/memories.py"])
def test_faces_read_and_write_through_the_use_cases_alone(face: str) -> None:
    """No face holds a store, a search or a writer of its own."""
    known = {each for each in imports_of(MEMORY / face) if each.startswith("molecule_grpc.memory")}
    closed = ("store", "search", "commits", "changes", "chains", "reads", "embedding", "plugin")
    assert [each for each in known if each.split(".")[2:3] and each.split(".")[2] in closed] == []


def test_every_way_out_renders() -> None:
    """The three rooms that hand texts to agents."""
    for name in ("memories.py", "session.py"):
        assert "molecule_grpc.memory.rendering" in imports_of(MEMORY / name), name
    source = (MEMORY / "memories.py").read_text()
    for use in ("shown(reader, each.row", "shown(reader, await", "shown_version(reader, each)"):
        assert use in source
