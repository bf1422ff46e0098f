"""Shows answers: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

# Characters with an effect on a terminal: control characters, and changes of direction.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Output:
    """Prints answers to stdout, and everything else to stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = Console(highlight=False, soft_wrap=True)
        self.notes = Console(stderr=True, highlight=False, soft_wrap=True)

    def table(
        self,
        messages: Iterable[Message | Mapping[str, Any]],
        columns: Sequence[str],
        *,
        empty: str = "nothing",
    ) -> None:
        """Print a list: a JSON array, or the given fields of each message as columns."""
        rows = [to_dict(one) if isinstance(one, Message) else dict(one) for one in messages]
        if self.as_json:
            _print_json(rows)
        elif not self.console.is_terminal:
            for row in rows:
                print("\t".join(_cell(row.get(column)) for column in columns))
        elif not rows:
            self.note(empty)
        else:
            table = Table(box=None, pad_edge=False, header_style="bold")
            for column in columns:
                # An id that is cut cannot be pasted into the next command.
                table.add_column(
                    column.replace("_", " "), no_wrap=column.endswith("id"), overflow="fold"
                )
            for row in rows:
                # As texts: a cell with brackets is no markup.
                table.add_row(*(Text(_cell(row.get(column))) for column in columns))
            self.console.print(table)

    def one(self, message: Message | Mapping[str, Any], fields: Sequence[str] = ()) -> None:
        """Print an object: as JSON, or a line for each given field (default: each not empty)."""
        row = to_dict(message) if isinstance(message, Message) else dict(message)
        if self.as_json:
            _print_json(row)
            return
        shown = {name: row.get(name) for name in fields or row if row.get(name) not in _SILENT}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            label = f"{name.replace('_', ' '):<{width}}"
            self.console.print(label, style="dim", end="  ")
            self.console.print(_cell(value, multiline=True), markup=False)

    def line(self, message: Message, text: str) -> None:
        """Print an element of a stream: a line of JSON, or `text`; flushed at once."""
        whole = json.dumps(to_dict(message), ensure_ascii=False) if self.as_json else text
        print(visible(whole), flush=True)

    def result(self, text: str) -> None:
        """Print a text that is data: unchanged, unless to a terminal."""
        print(visible(text) if self.console.is_terminal else text)

    def done(self, text: str, **facts: Any) -> None:
        """Report a change: `facts` as JSON on stdout, or `text` on stderr."""
        if self.as_json:
            _print_json(facts)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """Print a line for the person at the terminal, on stderr."""
        self.notes.print(visible(text), markup=False)

    def warning(self, text: str) -> None:
        """Print a problem that stops nothing, on stderr."""
        self.notes.print(f"[yellow]warning:[/] {escape(visible(text))}")

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Show `text` with a spinner on a terminal, while inside."""
        if self.notes.is_terminal and not self.as_json:
            with self.notes.status(text):
                yield
        else:
            yield


_SILENT: tuple[object, ...] = (None, "", [], {})


def to_dict(message: Message) -> dict[str, Any]:
    """A message in the names and forms of the REST API's JSON."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _print_json(value: Any) -> None:
    print(visible(json.dumps(value, indent=2, ensure_ascii=False)))


def visible(text: str) -> str:
    """A text of anybody's, whose control characters stand as JSON spells them."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _cell(value: Any, *, multiline: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return visible(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = visible(str(value))
    return text if multiline else " ".join(text.split())
