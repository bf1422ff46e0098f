"""What a bundle may hold, and what its `config.yaml` says of the runtime."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Final

from molecule_grpc.bundles import layout
from molecule_grpc.bundles.values import Bundle
from molecule_grpc.kernel.errors import Conflict, Invalid
from molecule_grpc.kernel.text import clean
from molecule_grpc.runtimes import default_model

SCHEMA: Final = "1.0"
MAX_NODES: Final = 200
MAX_LEVELS: Final = 16
MAX_FILES: Final = 500
MAX_FILE_BYTES: Final = 2 * 1024 * 1024
MAX_EXPORT_BYTES: Final = 3 * 1024 * 1024
MAX_OMITTED: Final = 100
_MAX_CARD_BYTES: Final = 256 * 1024
_DEFAULT_RUNTIME: Final = "langgraph"
_RUNTIME: Final = re.compile(
    r"^runtime:[ \t]*(?P<quote>[\"']?)(?P<name>[a-z0-9][a-z0-9._-]{0,99})(?P=quote)"
    r"[ \t]*(?:#.*)?\r?$",
    re.MULTILINE,
)
# Their agents bound their own work.
_WITHOUT_TIMEOUT: Final = frozenset({"langgraph", "deepagents"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_MAX_PATH_BYTES: Final = 512


def checked(bundle: Bundle) -> Bundle:
    """A bundle as it is imported: names on one line, a configuration in every workspace.

    Raises:
        Invalid: a part breaks its rule; names the part.
    """
    if (nodes := count(bundle)) > MAX_NODES:
        raise _wrong(f"a bundle can have {MAX_NODES} workspaces, not {nodes}", "bundle")
    return _node(bundle, "bundle", MAX_LEVELS)


def count(bundle: Bundle) -> int:
    """How many workspaces a bundle has."""
    found, left = 0, [bundle]
    while left:
        each = left.pop()
        found += 1
        left.extend(each.below)
    return found


def runtime_of(bundle: Bundle) -> str:
    """The runtime that `config.yaml` names; langgraph for none, and for one of another form."""
    found = _RUNTIME.search(bundle.prompts.get(layout.CONFIG, ""))
    return found["name"] if found else _DEFAULT_RUNTIME


def is_plain(path: str) -> bool:
    """Whether a path may name a text of a bundle: relative, of characters that all can write."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return False
    return (
        size <= _MAX_PATH_BYTES
        and not _CONTROL.search(path)
        and not layout.is_hidden(path)
        and all(path.split("/"))
    )


def with_configuration(bundle: Bundle, runtime: str) -> Bundle:
    """The bundle with its own `config.yaml`, or with the smallest that an agent can start from."""
    if layout.CONFIG in bundle.prompts:
        return bundle
    facts: dict[str, object] = {
        "name": bundle.name,
        "description": bundle.description,
        "version": "1.0.0",
        "tier": bundle.tier,
        "runtime": runtime,
        "model": bundle.model or default_model(runtime),
    }
    if runtime not in _WITHOUT_TIMEOUT:
        facts["runtime_config"] = {"timeout": 0}
    # JSON is YAML, and quotes whatever a name may hold.
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items())
    return dataclasses.replace(bundle, prompts={**bundle.prompts, layout.CONFIG: text})


def too_large(what: str) -> Conflict:
    """An export that no client could read."""
    return Conflict(
        f"the bundle would have more than {what}: export what is below the workspace in parts",
        reason="BUNDLE_TOO_LARGE",
    )


def _wrong(message: str, field: str) -> Invalid:
    """A refusal that names the part, also to those who read nothing but its text."""
    return Invalid(f"{field}: {message}", field=field)


def _node(bundle: Bundle, where: str, levels: int) -> Bundle:
    if not levels:
        raise _wrong(f"a bundle can have {MAX_LEVELS} levels", where)
    name = layout.BREAKS.sub(" ", clean(bundle.name)).strip()
    _require_bytes(name, layout.MAX_NAME_BYTES, f"{where}.name", least=1)
    description = layout.BREAKS.sub(" ", clean(bundle.description)).strip()
    _require_bytes(description, layout.MAX_DESCRIPTION_BYTES, f"{where}.description")
    for field, most in (
        ("id", 255),
        ("model", 255),
        ("author", layout.MAX_NAME_BYTES),
        ("version", layout.MAX_VERSION_BYTES),
    ):
        value = getattr(bundle, field)
        _require_bytes(value, most, f"{where}.{field}")
        if layout.BREAKS.search(value):
            raise _wrong("control characters are not allowed", f"{where}.{field}")
    if not 0 <= bundle.tier <= 100:
        raise _wrong("tier must be 0 to 100", f"{where}.tier")
    if bundle.card is not None and len(bundle.card) > _MAX_CARD_BYTES:
        raise _wrong("agent_card is larger than 256 KiB", f"{where}.agent_card")
    _check_parts(bundle, where)
    node = dataclasses.replace(
        bundle,
        name=name,
        description=description,
        below=tuple(
            _node(each, f"{where}.sub_workspaces[{n}]", levels - 1)
            for n, each in enumerate(bundle.below)
        ),
    )
    node = with_configuration(node, runtime_of(node))
    _check_size(node, where)
    return node


def _check_parts(bundle: Bundle, where: str) -> None:
    for part, ids in (
        ("skills", [skill.id for skill in bundle.skills]),
        ("tools", [tool.id for tool in bundle.tools]),
    ):
        for n, key in enumerate(ids):
            if not layout.ID.fullmatch(key):
                raise _wrong("an id is the name of a file", f"{where}.{part}[{n}].id")
        if len(set(ids)) != len(ids):
            raise _wrong("two have the same id", f"{where}.{part}")
    for n, skill in enumerate(bundle.skills):
        _require_bytes(skill.name, layout.MAX_NAME_BYTES, f"{where}.skills[{n}].name")
        _require_bytes(
            skill.description,
            layout.MAX_DESCRIPTION_BYTES,
            f"{where}.skills[{n}].description",
        )
        for path in skill.files:
            _check_path(path, f"{where}.skills[{n}].files")
    for path in bundle.prompts:
        _check_path(path, f"{where}.prompts")
        if layout.is_reserved(path):
            raise _wrong(
                "a path of the system prompt, a skill or a tool names no prompt", f"{where}.prompts"
            )


def _check_path(path: str, field: str) -> None:
    if not is_plain(path):
        raise _wrong("a path is relative, and no part of it begins with a dot", field)


def _check_size(bundle: Bundle, where: str) -> None:
    files = layout.to_files(bundle)
    if len(files) > MAX_FILES or sum(map(len, files.values())) > MAX_FILE_BYTES:
        raise _wrong(f"a workspace can have {MAX_FILES} texts and {MAX_FILE_BYTES} bytes", where)


def _require_bytes(text: str, most: int, field: str, *, least: int = 0) -> None:
    if not least <= len(text.encode("utf-8", "replace")) <= most:
        raise _wrong(f"must have {least} to {most} bytes", field)
