"""Files of workspaces: listed in pages, read and written as streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final
from uuid import UUID

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.rules import absolute
from molecule_grpc.backends.access.spool import Spool, new_spool
from molecule_grpc.backends.access.targets import Targets, closing
from molecule_grpc.backends.contract.entering import FileEntry
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.kernel.budget import Budget, Turns
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.payer import OPERATOR_PAYS, Payer, payer

MAX_BYTES: Final = 100 * 1024 * 1024
MAX_TEXT_BYTES: Final = 1024 * 1024
_MOST_LISTED: Final = 20_000
_PAGE: Final = 500
# JSON makes six bytes of a control character.
_PAGE_BYTES: Final = 1024 * 1024
_LISTING: Final = "workspace files"
# A list, a deletion, each piece of a file that is read.
_SECONDS: Final = 15.0
# An engine gets 100 MiB in less than a second; a busy one in less than this.
_WRITE_SECONDS: Final = 60.0


class WorkspaceFiles:
    """Files of workspaces that the platform runs.

    Every method raises as `Targets.find`, and what `refusals.translated` makes of the backend's
    words.

    Args:
        budget: what reaches into workspaces at once.
        uploads: whose turn it is to send a file, which waits on the disk until it is whole.
    """

    def __init__(
        self, targets: Targets, page_tokens: PageTokens, budget: Budget, uploads: Turns
    ) -> None:
        self._targets = targets
        self._page_tokens = page_tokens
        self._budget = budget
        self._uploads = uploads

    async def entries(
        self,
        workspace_id: UUID,
        root: str,
        path: str,
        *,
        depth: int,
        limit: int,
        page_token: str,
    ) -> Page[FileEntry]:
        """What lies below a directory, in the order of paths, which are relative to the root."""
        directory = absolute(root, path, itself=True)
        after = self._page_tokens.read(_LISTING, page_token, str)
        target = await self._targets.find(workspace_id, Capability.FILES)
        with self._using(), refusals.translated():
            found = await target.backend.list_files(
                target.resource,
                directory,
                limit=_MOST_LISTED,
                depth=depth or 1,
                deadline=_SECONDS,
            )
        prefix = f"{path}/" if path else ""
        rows = [each._replace(path=prefix + _shown(each.path)) for each in found]
        rows.sort(key=lambda each: each.path)
        if after is not None:
            rows = [each for each in rows if each.path > str(after[0])]
        return page_of(rows, limit=limit or _PAGE, size=_size, max_bytes=_PAGE_BYTES)

    def token_after(self, entry: FileEntry) -> str:
        """The token of the page that begins behind an entry."""
        return self._page_tokens.make(_LISTING, entry.path)

    async def read(self, workspace_id: UUID, root: str, path: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes; the first piece may be empty. Refusals come before the first piece."""
        place = absolute(root, path)
        target = await self._targets.find(workspace_id, Capability.FILES)
        with self._using(), refusals.translated():
            read = target.backend.read_file(target.resource, place, deadline=_SECONDS)
            async with closing(read) as pieces:
                async for piece in pieces:
                    yield piece

    async def read_text(self, workspace_id: UUID, root: str, path: str) -> tuple[str, int]:
        """A file's text and its size in bytes.

        Raises:
            Invalid: FILE_TOO_LARGE: above 1 MiB.
            Conflict: FILE_NOT_TEXT.
        """
        content = bytearray()
        async with contextlib.aclosing(self.read(workspace_id, root, path)) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > MAX_TEXT_BYTES:
                    raise refusals.too_large(path, len(content), MAX_TEXT_BYTES)
        try:
            return content.decode(), len(content)
        except UnicodeDecodeError as error:
            raise refusals.not_text() from error

    @contextlib.asynccontextmanager
    async def receiving(
        self, workspace_id: UUID, root: str, path: str, pieces: AsyncIterator[bytes]
    ) -> AsyncIterator[Spool]:
        """Take in the content of a file that may be written, before it is written.

        Raises:
            Invalid: FILE_TOO_LARGE: above 100 MiB.
        """
        absolute(root, path)
        await self._targets.find(workspace_id, Capability.FILES)
        async with self._uploads.turn(**_payer().keys):
            with new_spool() as spool:
                await self._fill(spool, path, pieces)
                yield spool

    async def _fill(self, spool: Spool, path: str, pieces: AsyncIterator[bytes]) -> None:
        async for piece in pieces:
            if spool.size + len(piece) > MAX_BYTES:
                raise refusals.too_large(path, spool.size + len(piece), MAX_BYTES)
            await spool.append(piece)

    async def write(self, workspace_id: UUID, root: str, path: str, content: Spool) -> None:
        """Replace a file at once."""
        place = absolute(root, path)
        target = await self._targets.find(workspace_id, Capability.FILES)
        with self._using(), refusals.translated():
            await target.backend.write_file(
                target.resource, place, content.pieces(), content.size, deadline=_WRITE_SECONDS
            )

    async def delete(self, workspace_id: UUID, root: str, path: str) -> None:
        """Delete a file or a link."""
        place = absolute(root, path)
        target = await self._targets.find(workspace_id, Capability.FILES)
        with self._using(), refusals.translated():
            await target.backend.delete_file(target.resource, place, deadline=_SECONDS)

    def _using(self) -> contextlib.AbstractContextManager[None]:
        return self._budget.use(1, **_payer().keys)


def _payer() -> Payer:
    return payer.get() or OPERATOR_PAYS


def _size(entry: FileEntry) -> int:
    return len(entry.path.encode()) + 64


def _shown(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
