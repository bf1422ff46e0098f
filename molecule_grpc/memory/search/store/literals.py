"""Values as Postgres reads them where a parameter cannot stand or has no type of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence

from molecule_grpc.memory.search.plan import Meaning


def schema_of(meaning: Meaning) -> str:
    """SQL: the schema of the extension, quoted."""
    return quoted_name(meaning.schema)


def quoted_name(name: str) -> str:
    """SQL: a name in double quotes, with the double quotes inside the name doubled."""
    return '"' + name.replace('"', '""') + '"'


def quoted(lexeme: str) -> str:
    """A lexeme as a quoted term of a `tsquery`: none of its characters is an operator."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def vector_text(vector: Sequence[float]) -> str:
    """A vector as the extension reads it."""
    return json.dumps([float(value) for value in vector], separators=(",", ":"))
