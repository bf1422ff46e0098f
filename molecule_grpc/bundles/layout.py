"""Where the parts of a bundle lie below /configs, in both directions.

`system-prompt.md`, `skills/ID/...` and `tools/ID.json` are parts of their own; every other text is
a prompt. `.bundle.json` keeps what no file says: names of skills, author, version.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from molecule_grpc.bundles.values import Bundle, Omission, Skill, Texts, Tool
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.text import clean, cut_bytes

SYSTEM_PROMPT: Final = "system-prompt.md"
CONFIG: Final = "config.yaml"
ABOUT: Final = ".bundle.json"
_SKILLS: Final = "skills"
_TOOLS: Final = "tools"
_JSON: Final = ".json"
MAX_NAME_BYTES: Final = 1000
MAX_DESCRIPTION_BYTES: Final = 8192
MAX_VERSION_BYTES: Final = 100
BREAKS: Final = re.compile(r"[\x00-\x1f\x7f]+")
ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_FRONT: Final = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)
_FRONT_VALUE: Final = r"^{key}:[ \t]*(.*?)[ \t]*$"


def to_files(bundle: Bundle) -> dict[str, bytes]:
    """The files below /configs of the workspace of a bundle, without those below it."""
    texts = dict(bundle.prompts)
    if bundle.system_prompt:
        texts[SYSTEM_PROMPT] = bundle.system_prompt
    for skill in bundle.skills:
        for path, text in skill.files.items():
            texts[f"{_SKILLS}/{skill.id}/{path}"] = text
    for tool in bundle.tools:
        texts[f"{_TOOLS}/{tool.id}{_JSON}"] = tool.config
    if about := _about(bundle):
        texts[ABOUT] = json.dumps(about, separators=(",", ":"))
    return {path: text.encode() for path, text in texts.items()}


def is_reserved(path: str) -> bool:
    """Whether a path belongs to a part of its own, and names no prompt."""
    return path == SYSTEM_PROMPT or path.startswith(f"{_SKILLS}/") or _tool_of(path) is not None


def is_hidden(path: str) -> bool:
    """Whether a component of a path begins with a dot; bundles leave out hidden files."""
    return any(part.startswith(".") for part in path.split("/"))


def parts(texts: Texts, about_text: str) -> dict[str, Any]:
    """The parts of a bundle that the texts of its workspace make, by the names of its fields.

    Args:
        about_text: of `.bundle.json`; empty for none.
    """
    about = _object(about_text)
    omitted = list(texts.omitted)
    prompts, skills, tools = {}, dict[str, dict[str, str]](), dict[str, str]()
    for path, text in texts.files.items():
        skill = re.match(rf"{_SKILLS}/({ID.pattern})/(.+)", path, re.DOTALL)
        if skill:
            skills.setdefault(skill[1], {})[skill[2]] = text
        elif (tool := _tool_of(path)) is not None:
            if _is_json(text):
                tools[tool] = text
            else:
                omitted.append(Omission(path, "unreadable"))
        elif path.startswith(f"{_SKILLS}/"):
            omitted.append(Omission(path, "unreadable"))
        elif path != SYSTEM_PROMPT:
            prompts[path] = text
    return {
        "system_prompt": texts.files.get(SYSTEM_PROMPT, ""),
        "skills": tuple(_skills(skills, about)),
        "tools": tuple(_tools(tools, about)),
        "prompts": prompts,
        "author": _line(about.get("author"), MAX_NAME_BYTES),
        "version": _line(about.get("version"), MAX_VERSION_BYTES),
        "omitted": tuple(omitted),
    }


def _about(bundle: Bundle) -> dict[str, Any]:
    """What no file says; empty for nothing."""
    about: dict[str, Any] = {}
    if bundle.skills:
        about["skills"] = [
            {
                "id": skill.id,
                "name": skill.name,
                "description": skill.description,
                "bare": not skill.files,
            }
            for skill in bundle.skills
        ]
    if bundle.tools:
        about["tools"] = [tool.id for tool in bundle.tools]
    if bundle.author:
        about["author"] = bundle.author
    if bundle.version:
        about["version"] = bundle.version
    return about


def _skills(found: dict[str, dict[str, str]], about: Mapping[str, Any]) -> Iterator[Skill]:
    """The bundle's skills in the bundle's order, then skills that were added since."""
    left = dict(found)
    for each in _list(about.get("skills")):
        key = _text(each.get("id")) if isinstance(each, dict) else ""
        files = left.pop(key, {})
        if files or (ID.fullmatch(key) and each.get("bare") is True):
            yield _skill(key, each, files)
    for key in sorted(left):
        yield _skill(key, {"name": key, **_front(left[key].get("SKILL.md", ""))}, left[key])


def _skill(key: str, said: Mapping[str, Any], files: dict[str, str]) -> Skill:
    name, description = _text(said.get("name")), _text(said.get("description"))
    return Skill(
        key, cut_bytes(name, MAX_NAME_BYTES), cut_bytes(description, MAX_DESCRIPTION_BYTES), files
    )


def _tools(found: dict[str, str], about: Mapping[str, Any]) -> Iterator[Tool]:
    left = dict(found)
    for key in (*_list(about.get("tools")), *sorted(found)):
        if isinstance(key, str) and key in left:
            yield Tool(key, left.pop(key))


def _front(text: str) -> dict[str, str]:
    """Name and description of a skill, as the head of its SKILL.md says them."""
    head = _FRONT.match(text)
    if head is None:
        return {}
    found = {}
    for key in ("name", "description"):
        value = re.search(_FRONT_VALUE.format(key=key), head[1], re.MULTILINE)
        if value and value[1].strip("\"'"):
            found[key] = value[1].strip("\"'")
    return found


def _tool_of(path: str) -> str | None:
    """The id of the tool whose file this is."""
    folder, slash, name = path.partition("/")
    key = name.removesuffix(_JSON)
    whole = folder == _TOOLS and slash and key != name
    return key if whole and ID.fullmatch(key) else None


def _is_json(text: str) -> bool:
    try:
        to_text(json.loads(text), "")
    except (ValueError, RecursionError, Invalid):
        return False
    return True


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _line(value: object, most: int) -> str:
    """A text on one line. Whoever can write `.bundle.json` may have put anything there."""
    return cut_bytes(BREAKS.sub(" ", _text(value)), most)
