"""YAML of strangers: safe, bounded, and with includes that stay below the template's root.

Scalars mean what YAML 1.2 says: `yes` and `12:30` are texts. Aliases are counted as if each were
written out, so that a few lines cannot become a million nodes. A key that is there twice is an
error, not the last one's.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import yaml

from molecule_grpc.templates.reading.files import Files, TemplateInvalid, shown

MAX_NODES: Final = 200_000
MAX_DEPTH: Final = 64
MAX_INCLUDES: Final = 1_000
MAX_INCLUDE_DEPTH: Final = 16
_MAX_DOCUMENT_BYTES: Final = 1024 * 1024
# Of all files that are parsed, each counted as often as a file is included.
MAX_PARSED_BYTES: Final = 16 * 1024 * 1024
# A text counts as one value more for each so many characters: aliases and includes repeat it.
_CHARS_OF_A_NODE: Final = 64
_INCLUDE: Final = "!include"
_MERGE: Final = "tag:yaml.org,2002:merge"
_STANDARD: Final = "tag:yaml.org,2002:"
# What the parser gives to texts without a tag of their own. None makes anything but plain values.
_KNOWN_TAGS: Final = frozenset(
    _STANDARD + name
    for name in ("map", "seq", "str", "null", "bool", "int", "float", "timestamp", "value", "merge")
)
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")
_WORDS: Final[dict[str, bool | None]] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


class Included(dict[str, Any]):
    """A mapping, with the path of the file that includes it.

    Args:
        source: path of that file.
    """

    def __init__(self, entries: Iterable[tuple[str, Any]], source: str) -> None:
        super().__init__(entries)
        self.source = source


class Documents:
    """Reads the YAML files of one template, all of them out of the same bounds.

    Args:
        includes: whether `!include` is allowed.
    """

    def __init__(self, files: Files, *, includes: bool = True) -> None:
        self._files = files
        self._includes = includes
        self._nodes_left = MAX_NODES
        self._includes_left = MAX_INCLUDES
        self._bytes_left = MAX_PARSED_BYTES

    def load(self, path: str) -> Any:
        """A file's content as values, with included files in the places of their includes.

        Raises:
            TemplateInvalid: names the file and, where one is known, the line.
        """
        return self._load(path, ())

    def _load(self, path: str, above: tuple[str, ...]) -> Any:
        if path in above:
            raise TemplateInvalid(f"{shown(path)} includes itself")
        if len(above) > MAX_INCLUDE_DEPTH:
            raise TemplateInvalid(f"includes go deeper than {MAX_INCLUDE_DEPTH} files")
        content = self._files.get(path)
        if content is None:
            raise TemplateInvalid(f"there is no file {shown(path)}")
        if len(content) > _MAX_DOCUMENT_BYTES:
            raise TemplateInvalid(f"{shown(path)} is larger than {_MAX_DOCUMENT_BYTES} bytes")
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise TemplateInvalid(f"files of more than {MAX_PARSED_BYTES} bytes are included")
        root = _composed(path, content)
        if root is None:
            return None
        self._nodes_left -= _Size(path).of(root)
        if self._nodes_left < 0:
            raise TemplateInvalid(f"the template has more than {MAX_NODES} values, or long ones")
        return _Values(path, lambda target: self._include(target, path, above)).of(root)

    def _include(self, target: str, path: str, above: tuple[str, ...]) -> Any:
        if not self._includes:
            raise TemplateInvalid(f"{shown(path)} must not include other files")
        self._includes_left -= 1
        if self._includes_left < 0:
            raise TemplateInvalid(f"a template can have {MAX_INCLUDES} includes at most")
        return self._load(beside(path, target), (*above, path))


def beside(path: str, target: str) -> str:
    """The path that a file means by a relative one.

    Raises:
        TemplateInvalid: it leads out of the template.
    """
    found = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if not target or target.startswith("/") or "\\" in target or found.split("/")[0] == "..":
        raise TemplateInvalid(f"{shown(target)} in {shown(path)} leads out of the template")
    return found


class _Size:
    """Counts nodes with aliases written out, and refuses what is too deep or contains itself."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: dict[int, tuple[int, int] | None] = {}

    def of(self, root: yaml.Node) -> int:
        return self._measure(root)[0]

    def _measure(self, node: yaml.Node) -> tuple[int, int]:
        """How many nodes there are, and on how many levels."""
        if isinstance(node, yaml.ScalarNode):
            return 1 + len(node.value) // _CHARS_OF_A_NODE, 1
        if id(node) in self._known:
            known = self._known[id(node)]
            if known is None:
                raise _fault(self._path, node, "a value contains itself")
            return known
        self._known[id(node)] = None
        parts = [self._measure(each) for each in _parts(node)]
        measured = (
            1 + sum(size for size, _ in parts),
            1 + max((high for _, high in parts), default=0),
        )
        if measured[0] > MAX_NODES or measured[1] > MAX_DEPTH:
            raise _fault(self._path, node, "there is too much, or it is nested too deeply")
        self._known[id(node)] = measured
        return measured


class _Values:
    """Plain values of the nodes of one file."""

    def __init__(self, path: str, include: Callable[[str], Any]) -> None:
        self._path = path
        self._include = include

    def of(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if node.tag not in _KNOWN_TAGS:
            raise _fault(self._path, node, f"unknown tag {node.tag[:50]}")
        if isinstance(node, yaml.SequenceNode):
            return [self.of(each) for each in node.value]
        assert isinstance(node, yaml.MappingNode)
        return self._mapping(node)

    def _mapping(self, node: yaml.MappingNode) -> Included:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault(self._path, key, "a key must be a text")
            if key.tag == _MERGE:
                # Added to, never copied: a file can merge 60,000 mappings into a growing one.
                for name, each in self._merged(value).items():
                    merged.setdefault(name, each)
            elif key.value in own:
                raise _fault(self._path, key, f"the key {key.value[:50]!r} is there twice")
            else:
                own[key.value] = self.of(value)
        return Included((merged | own).items(), self._path)

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for each in sources:
            if not isinstance(each, yaml.MappingNode):
                raise _fault(self._path, node, "<< needs a mapping")
            for name, value in self._mapping(each).items():
                merged.setdefault(name, value)
        return merged

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.tag == _INCLUDE:
            return self._include(node.value)
        if node.tag not in _KNOWN_TAGS:
            raise _fault(self._path, node, f"unknown tag {node.tag[:50]}")
        text: str = node.value
        if node.style or node.tag == f"{_STANDARD}str":
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text


def _parts(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    parts: list[yaml.Node] = node.value
    return parts


def _composed(path: str, content: bytes) -> yaml.Node | None:
    """The tree of nodes of a file that has one document.

    Events come first: the parser makes them without recursion, so that a file of 100,000 brackets
    is refused before a tree is built of them.
    """
    try:
        text = content.decode("utf-8-sig")
        depth = 0
        for events, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH or events > 2 * MAX_NODES:
                raise TemplateInvalid(f"{shown(path)} has too much, or is nested too deeply")
        return yaml.compose(text, Loader=yaml.CSafeLoader)
    except UnicodeDecodeError as error:
        raise TemplateInvalid(f"{shown(path)} is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" line {mark.line + 1}"
        raise TemplateInvalid(f"{shown(path)}{where}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise TemplateInvalid(f"{shown(path)} is not YAML") from error


def _fault(path: str, node: yaml.Node, message: str) -> TemplateInvalid:
    return TemplateInvalid(f"{shown(path)} line {node.start_mark.line + 1}: {message}")
