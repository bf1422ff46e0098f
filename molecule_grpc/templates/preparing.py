"""What each workspace of a template is created with, files of the disk included."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.templates.catalogue import Catalogue
from molecule_grpc.templates.generating import Configured, Wanted, configured
from molecule_grpc.templates.reading.files import Files, TemplateInvalid
from molecule_grpc.templates.start_files import check
from molecule_grpc.templates.values import Node


class Prepared(NamedTuple):
    """A workspace with all that is known before it is looked up.

    Args:
        fault: why it cannot be created; empty for no reason.
        notes: what is ignored.
    """

    node: Node
    configured: Configured
    fault: str
    notes: tuple[str, ...]


_NOTHING = Configured(runtime="", model="", files={})


class Preparing:
    """Prepares the workspaces of one import; a file of the disk is read once.

    Args:
        default_tier: of workspaces for which nobody names one.
    """

    def __init__(self, catalogue: Catalogue, default_tier: int) -> None:
        self._catalogue = catalogue
        self._default_tier = default_tier
        self._templates: dict[str, Files | None] = {}
        self._plugins: dict[str, Files | None] = {}

    async def prepare(self, node: Node) -> Prepared:
        """A workspace with its files. What is wrong with a file is this workspace's fault alone."""
        notes = list(node.notes)
        if node.external:
            return Prepared(
                node, Configured(runtime="", model=node.model, files={}), node.fault, node.notes
            )
        try:
            layers = [*await self._template(node.template, notes), node.files]
            plugins = await self._plugin_files(node.plugins, notes)
            # YAML of the template is parsed and written: up to a second, which others do not wait.
            made = await asyncio.to_thread(configured, self._wanted(node), layers, plugins)
            check(made.files)
        except (TemplateInvalid, Invalid) as error:
            return Prepared(node, _NOTHING, node.fault or error.message, tuple(notes))
        return Prepared(node, made, node.fault, tuple(notes))

    def _wanted(self, node: Node) -> Wanted:
        return Wanted(
            name=node.name,
            role=node.role,
            tier=node.tier or self._default_tier,
            runtime=node.runtime,
            model=node.model,
            settings=node.settings,
            plugins=node.plugins,
        )

    async def _template(self, name: str, notes: list[str]) -> Sequence[Files]:
        if not name:
            return ()
        if name not in self._templates:
            self._templates[name] = await self._catalogue.workspace_files(name)
        files = self._templates[name]
        if files is None:
            notes.append(f"template: there is no template {name[:200]!r}")
        return () if files is None else (files,)

    async def _plugin_files(self, names: Sequence[str], notes: list[str]) -> Files:
        found: dict[str, bytes] = {}
        for name in names:
            if name not in self._plugins:
                self._plugins[name] = await self._catalogue.plugin_files(name)
            files = self._plugins[name]
            if files is None:
                notes.append(f"plugins: this server has no plugin {name[:200]!r}")
            else:
                found |= {f"plugins/{name}/{path}": content for path, content in files.items()}
        return found
