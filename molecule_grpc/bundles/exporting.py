"""Export: a workspace and everything below it become a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from molecule_grpc.bundles import layout, rules
from molecule_grpc.bundles.ports import LiveFiles, Secrets, StartFiles
from molecule_grpc.bundles.store import tree
from molecule_grpc.bundles.store.tree import Node
from molecule_grpc.bundles.values import Bundle, Omission, Texts
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid, NotFound
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.text import clean

# A shorter value would be found in any text.
_LEAST_SECRET: Final = 8


class Export:
    """Makes bundles.

    Args:
        live: files of agents that run or ran.
        files: files that agents are first started with, where nothing else is there to read.
        secrets: what no bundle may hold.
    """

    def __init__(self, pool: Pool, live: LiveFiles, files: StartFiles, secrets: Secrets) -> None:
        self._pool = pool
        self._live = live
        self._files = files
        self._secrets = secrets

    async def export(self, workspace_id: UUID, within: UUID | None) -> Bundle:
        """The bundle of a workspace.

        Args:
            within: the only organisation that the workspace may be of; None for any.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Conflict: BUNDLE_TOO_LARGE: more than 200 workspaces, 16 levels or 3 MiB;
                SECRET_UNREADABLE.
            Unavailable: BACKEND_UNAVAILABLE: an engine does not answer.
        """
        with database_errors():
            nodes = await tree.below(self._pool, workspace_id, within, rules.MAX_NODES + 1)
        if not nodes:
            raise NotFound("bundle not found", reason="WORKSPACE_NOT_FOUND")
        if len(nodes) > rules.MAX_NODES:
            raise rules.too_large(f"{rules.MAX_NODES} workspaces")
        if nodes[-1].level > rules.MAX_LEVELS:
            raise rules.too_large(f"{rules.MAX_LEVELS} levels")
        size = 0
        root = nodes[0].parent_id
        below: dict[UUID | None, list[Bundle]] = {}
        # From the leaves up, siblings in their order.
        for node in sorted(nodes, key=lambda each: -each.level):
            children = tuple(below.pop(node.id, ()))
            bundle = await self._bundle(node, children, rules.MAX_EXPORT_BYTES - size)
            size += _bytes(bundle)
            if size > rules.MAX_EXPORT_BYTES:
                raise rules.too_large(f"{rules.MAX_EXPORT_BYTES} bytes")
            below.setdefault(node.parent_id, []).append(bundle)
        return below[root][0]

    async def _bundle(self, node: Node, children: tuple[Bundle, ...], room: int) -> Bundle:
        texts, about = await self._texts(node.id, room)
        made = layout.parts(texts, about)
        card, omitted = _card(node.card)
        made["omitted"] = (*made["omitted"], *omitted)[: rules.MAX_OMITTED]
        bundle = Bundle(
            id=str(node.id),
            name=node.name,
            description=node.role,
            tier=node.tier,
            model=node.model,
            card=card,
            below=children,
            **made,
        )
        return rules.with_configuration(bundle, node.runtime)

    async def _texts(self, workspace_id: UUID, room: int) -> tuple[Texts, str]:
        """The texts of a workspace, and what `.bundle.json` says."""
        size = max(0, min(room, rules.MAX_FILE_BYTES))
        found = await self._live.copy(workspace_id, files=rules.MAX_FILES, size=size)
        if found is None:
            found = await self._files.of_start(workspace_id, "")
        about = found.get(layout.ABOUT) or b""
        shown = {path: content for path, content in found.items() if not layout.is_hidden(path)}
        secrets = (await self._secrets.values(workspace_id)).values() if shown else ()
        long = [text for text in secrets if len(text) >= _LEAST_SECRET]
        said = about.decode(errors="replace")
        hides = any(secret in said for secret in long)
        return _readable(shown, long), "" if hides else said


def _readable(found: Mapping[str, bytes | None], secrets: list[str]) -> Texts:
    texts: dict[str, str] = {}
    omitted = []
    for path, content in sorted(found.items()):
        text = _text(content or b"")
        if not rules.is_plain(path):
            omitted.append(Omission(_shown(path), "unreadable"))
        elif content is None:
            omitted.append(Omission(path, "too_large"))
        elif text is None:
            omitted.append(Omission(path, "not_text"))
        elif any(secret in text for secret in secrets):
            omitted.append(Omission(path, "secret"))
        else:
            texts[path] = text
    return Texts(texts, omitted)


def _text(content: bytes) -> str | None:
    """A text that JSON and Postgres can hold; None for anything else."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _shown(path: str) -> str:
    """A path that JSON can hold."""
    return clean(path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))


def _card(text: str | None) -> tuple[str | None, list[Omission]]:
    """A card, unless a bundle would be nested too deeply with it."""
    if text is None:
        return None, []
    try:
        to_text(json.loads(text), "agent_card")
    except Invalid:
        return None, [Omission("agent_card", "too_large")]
    return text, []


def _bytes(bundle: Bundle) -> int:
    """About what a bundle takes in an answer, without those below it."""
    files = sum(len(path) + len(content) for path, content in layout.to_files(bundle).items())
    return 500 + files + len(bundle.card or "") + len(bundle.description.encode())
