"""What the inbox needs of the floors above and of other slices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID

# Called with a workspace and the delegation that its item carried: the item was set aside as
# poison, or left unread after 30 days. The item's own change is committed by then.
OnPoisoned: TypeAlias = Callable[[UUID, str], Awaitable[None]]
OnExpired: TypeAlias = Callable[[UUID, str], Awaitable[None]]
