"""A store of memories as version 1 of the contract describes it."""

from __future__ import annotations

from typing import Protocol

from molecule_grpc.memory.contract.namespaces import (
    Health,
    Namespace,
    NamespacePatch,
    NamespacePut,
)
from molecule_grpc.memory.contract.objects import Memory, MemoryWrite, Page, SearchRequest, Written


class ContractStore(Protocol):
    """Keeps what it is given. Rights, secrets, audit and wrapping are the platform's business.

    Every method raises `StoreError`.
    """

    async def health(self) -> Health:
        """Ask for the store's status and capabilities now, never from a cache."""
        ...

    async def put_namespace(self, name: str, put: NamespacePut) -> Namespace:
        """Make a namespace, or change what is sent of it. Another kind is BAD_REQUEST."""
        ...

    async def patch_namespace(self, name: str, patch: NamespacePatch) -> Namespace:
        """Change a namespace."""
        ...

    async def delete_namespace(self, name: str) -> None:
        """Delete a namespace with its memories."""
        ...

    async def commit(self, namespace: str, write: MemoryWrite) -> Written:
        """Store a memory. NOT_FOUND without its namespace; FORBIDDEN for an id of another one."""
        ...

    async def search(self, request: SearchRequest) -> list[Memory]:
        """Memories of the named namespaces that hold now."""
        ...

    async def page(self, namespace: str, cursor: str) -> Page:
        """Memories of a namespace that hold now, after a cursor; empty for the first page.

        Only of stores with the capability `list`.
        """
        ...

    async def forget(self, memory_id: str, requested_by: str) -> None:
        """Delete a memory. FORBIDDEN if it is of another namespace than `requested_by`."""
        ...
