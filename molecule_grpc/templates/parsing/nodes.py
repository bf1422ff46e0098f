"""One workspace of a template."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final

from molecule_grpc.host_list import ALL_HOSTS, HostList
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.templates.parsing import extras, rules
from molecule_grpc.templates.parsing.defaults import (
    Defaults,
    Prompts,
    category_routing,
    decoded,
    idle_seconds,
    memories,
    requirements,
    within,
)
from molecule_grpc.templates.parsing.fields import Fields
from molecule_grpc.templates.reading.files import Files, TemplateInvalid
from molecule_grpc.templates.start_files import plain_path
from molecule_grpc.templates.values import Node

MAX_NAME_BYTES: Final = 255
MAX_ROLE_BYTES: Final = 16 * 1024
SYSTEM_PROMPT: Final = "system-prompt.md"
ENV_FILE: Final = ".env"
_ACCESS: Final = ("none", "read_only", "read_write")
_EXTERNAL: Final = "external"


class NodeReader:
    """Reads workspaces.

    Args:
        variables: what `${NAME}` means besides what `.env` files say.
        env: of the `.env` at the template's root.
    """

    def __init__(
        self, files: Files, defaults: Defaults, env: Mapping[str, str], variables: Mapping[str, str]
    ) -> None:
        self._files = files
        self._defaults = defaults
        self._env = env
        self._variables = variables

    def read(self, given: Any, above: tuple[str, ...]) -> Node:
        """A workspace, without its children.

        Args:
            above: names of its ancestors, the root's first.

        Raises:
            TemplateInvalid: names the workspace and the field.
        """
        name = _name(given, above)
        path = (*above, name)
        fields = Fields(given, " / ".join(path))
        notes: list[str] = []
        prompts = Prompts(self._files, notes)
        directory = within(fields.text("files_dir"), fields.where)
        env = dict(self._env) | self._own_env(directory, fields)
        known = {**self._variables, **env}
        workspace_dir, access, fault = _mount(fields, known, notes)
        schedules, schedules_skipped = extras.schedules(fields, prompts, directory)
        external = fields.flag("external") or fields.text("runtime") == _EXTERNAL
        hosts, hosts_fault = _hosts(fields, None if external else self._defaults.egress)
        _note_parent(fields, above, notes)
        return Node(
            path=path,
            name=name,
            role=rules.folded(fields.text("role")),
            runtime=fields.text("runtime", self._defaults.runtime).strip(),
            model=fields.text("model", self._defaults.model).strip(),
            tier=fields.whole("tier", 0, 100, self._defaults.tier),
            template=within(fields.text("template"), fields.where),
            external=external,
            url=fields.text("url").strip(),
            workspace_dir=workspace_dir,
            workspace_access=access,
            max_concurrent_tasks=max(1, fields.whole("max_concurrent_tasks", -1, 10_000, 1)),
            place=_place(fields),
            egress=hosts,
            files=self._own_files(directory, fields, notes),
            settings=self._settings(fields, prompts, directory),
            plugins=self._plugins(fields, notes),
            secrets=env,
            memories=memories(fields) or self._defaults.memories,
            schedules=schedules,
            schedules_skipped=schedules_skipped,
            channels_skipped=extras.channels(fields, known),
            needs=requirements(fields, "required_env"),
            wishes=requirements(fields, "recommended_env"),
            fault=fault or hosts_fault or _unfit(name, fields),
            notes=tuple(notes),
        )

    def _own_env(self, directory: str, fields: Fields) -> dict[str, str]:
        """What the `.env` beside a role says."""
        path = posixpath.join(directory or posixpath.dirname(fields.source), ENV_FILE)
        content = self._files.get(path)
        return {} if content is None else rules.env_entries(decoded(path, content))

    def _own_files(self, directory: str, fields: Fields, notes: list[str]) -> dict[str, bytes]:
        """Files of `files_dir`, but for those with secrets; an inline system prompt beside them."""
        found: dict[str, bytes] = {}
        if directory or fields.has("files_dir"):
            start = f"{directory}/" if directory else ""
            found = {
                path[len(start) :]: content
                for path, content in self._files.items()
                if path.startswith(start) and posixpath.basename(path) != ENV_FILE
            }
            if not found:
                notes.append(f"files_dir: there are no files in {directory[:200]!r}")
        if (prompt := fields.text("system_prompt")).strip():
            found[SYSTEM_PROMPT] = prompt.encode()
        return found

    def _settings(self, fields: Fields, prompts: Prompts, directory: str) -> dict[str, Any]:
        """What `config.yaml` says beside the workspace's own fields."""
        settings: dict[str, Any] = {}
        for name in ("initial_prompt", "idle_prompt"):
            prompt = prompts.read(fields, name, directory)
            if prompt := prompt if prompt.strip() else self._defaults.prompts.get(name, ""):
                settings[name] = prompt
        if seconds := idle_seconds(fields, self._defaults.idle_interval_seconds):
            settings["idle_interval_seconds"] = seconds
        if routing := category_routing(fields, self._defaults.category_routing):
            settings["category_routing"] = routing
        return settings

    def _plugins(self, fields: Fields, notes: list[str]) -> tuple[str, ...]:
        chosen = rules.chosen_plugins(self._defaults.plugins, fields.texts("plugins"))
        good = tuple(name for name in chosen if plain_path(name) and "/" not in name)
        notes += [f"plugins: {name[:200]!r} is no name" for name in chosen if name not in good]
        return good


def _name(given: Any, above: tuple[str, ...]) -> str:
    where = " / ".join(above) or "workspaces"
    name = rules.folded(Fields(given, f"{where}: a workspace").text("name"))
    if not name:
        raise TemplateInvalid(f"{where}: a workspace has no name")
    return name


def _unfit(name: str, fields: Fields) -> str:
    """Why a workspace of this name and role cannot be stored; empty for no reason."""
    role = rules.folded(fields.text("role"))
    for what, text, most in (("name", name, MAX_NAME_BYTES), ("role", role, MAX_ROLE_BYTES)):
        if len(text.encode()) > most:
            return f"the {what} has more than {most} bytes"
        if not rules.legible(text):
            return f"the {what} holds control characters, or characters that turn its direction"
    return ""


def _mount(fields: Fields, known: Mapping[str, str], notes: list[str]) -> tuple[str, str, str]:
    """Host directory, access to it, and why the workspace cannot have them."""
    given = fields.text("workspace_dir").strip()
    access = fields.text("workspace_access", "none").strip() or "none"
    if access not in _ACCESS:
        return "", "none", f"workspace_access must be one of {', '.join(_ACCESS)}"
    if access == "none":
        if given:
            notes.append("workspace_dir is ignored: workspace_access is none")
        return "", access, ""
    directory = rules.expanded(given, known)
    if directory is None:
        return "", access, f"workspace_dir needs a variable that is not set: {given[:200]}"
    if not directory:
        return "", access, f"workspace_access {access} needs workspace_dir"
    return directory, access, ""


def _hosts(fields: Fields, default: object) -> tuple[HostList, str]:
    """The hosts that an agent may reach, and why the workspace cannot be held to them."""
    given = fields.given.get("egress")
    given = default if given is None else given
    if given is None:
        return ALL_HOSTS, ""
    try:
        return HostList.read(given), ""
    except Invalid as error:
        return ALL_HOSTS, error.message


def _place(fields: Fields) -> tuple[float, float] | None:
    if not fields.has("canvas"):
        return None
    canvas = fields.below("canvas")
    return canvas.number("x"), canvas.number("y")


def _note_parent(fields: Fields, above: tuple[str, ...], notes: list[str]) -> None:
    """The nesting decides who is whose parent, whatever else is written."""
    parent = rules.folded(fields.text("parent"))
    actual = above[-1] if above else ""
    if parent and parent != actual:
        place = f"below {actual}" if actual else "at the root"
        notes.append(f"parent: {parent[:200]} is ignored: the workspace stands {place}")
