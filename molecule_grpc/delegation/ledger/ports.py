"""What the ledger needs of the floor above."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

# Called with the callee after the commit that put a task into its queue. Must be quick.
OnQueued: TypeAlias = Callable[[UUID], None]
