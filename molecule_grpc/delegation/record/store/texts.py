"""The SQL that tells whether a row of a record contains a text, whatever JSON makes of it.

Nothing is stored for it, so that writes cost nothing: a search reads the record of its workspace
within its seconds. An index on substrings needs pg_trgm, which the embedded Postgres lacks.
"""

from __future__ import annotations

import json
from typing import NamedTuple

_SCALAR = '? (@.type() == "string" || @.type() == "number")'
# The texts of JSON: of an A2A body those of its text parts, and all words and numbers in its other
# parts; of any other body all its words and numbers. Names of fields are no text.
_TEXTS = 'strict $.**.text ? (@.type() == "string")'
_OTHERS_OF_PARTS = f"lax $[*] ? (!(exists(@.text))).** {_SCALAR}"
_OTHERS_OF_ANSWERS = f"strict $.**.parts[*] ? (!(exists(@.text))).** {_SCALAR}"
_ALL = f"strict $.** {_SCALAR}"


class Patterns(NamedTuple):
    """A text as two patterns of ILIKE, without wildcards.

    Args:
        literal: the text itself.
        spelled: the text as JSON spells it inside of a string.
    """

    literal: str
    spelled: str


def patterns(text: str) -> Patterns:
    """What `matching` looks for."""
    return Patterns(_pattern(text), _pattern(json.dumps(text, ensure_ascii=False)[1:-1]))


def matching(literal: str, spelled: str) -> str:
    """SQL: whether a row `a` has a text in its summary, its error, or a text of a body.

    Each is looked at by itself, in any case.

    Args:
        literal: the placeholder of `Patterns.literal`, such as `$3`.
        spelled: that of `Patterns.spelled`.
    """
    bodies = [_in_body(body, literal, spelled) for body in ("a.request_body", "a.response_body")]
    columns = [f"{column} ILIKE {literal}" for column in ("a.summary", "a.error_detail")]
    return f"({' OR '.join(columns + bodies)})"


def _in_body(body: str, literal: str, spelled: str) -> str:
    """JSON is taken apart, at three times the cost, only if it has the text anywhere.

    Of a message only the parts are looked at, since every envelope has words like `user`.
    """
    of_parts = _in_any("message.parts", literal, _TEXTS, _OTHERS_OF_PARTS)
    of_answer = _in_any(body, literal, _TEXTS, _OTHERS_OF_ANSWERS)
    # OFFSET 0 keeps the planner from looking the parts up once for each mention.
    return f"""
        EXISTS (
            SELECT FROM (SELECT {body} #> '{{params,message,parts}}' AS parts OFFSET 0) AS message
            WHERE coalesce(message.parts, {body})::text ILIKE {spelled}
              AND CASE WHEN message.parts IS NOT NULL THEN {of_parts}
                       WHEN {body} ? 'jsonrpc' THEN {of_answer}
                       ELSE {_in_any(body, literal, _ALL)} END
        )
    """


def _in_any(json_value: str, literal: str, *paths: str) -> str:
    found = (
        f"""
        EXISTS (SELECT FROM jsonb_path_query({json_value}, '{path}', silent => true) AS t (found)
                WHERE t.found #>> '{{}}' ILIKE {literal})
        """
        for path in paths
    )
    return f"({' OR '.join(found)})"


def _pattern(text: str) -> str:
    literal = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{literal}%"
