"""The names of the SQL that changes the ledger, for importers that have not moved yet."""

from __future__ import annotations

from molecule_grpc.delegation.ledger.store.accept import ACCEPT, Accepted, DelegationDraft, accept
from molecule_grpc.delegation.ledger.store.keys import free_key, release_key
from molecule_grpc.delegation.ledger.store.move import MOVE, Move, Moved, move

__all__ = [
    "ACCEPT",
    "MOVE",
    "Accepted",
    "DelegationDraft",
    "Move",
    "Moved",
    "accept",
    "free_key",
    "move",
    "release_key",
]
