"""Prints docs/errors.md: every error reason with its codes, from the comments of the proto.

buf build . --as-file-descriptor-set -o contract.binpb
python -m tools.errors_doc contract.binpb > docs/errors.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.descriptors import Contract

REASONS = "moleculeai.error.v1.ErrorReason"
PREFIX = "ERROR_REASON_"
# A reason's comment contains `Code: NOT_FOUND (404).` if a call can end with this reason, and no
# code if only frames of a stream carry the reason.
_CODE = re.compile(r"\s*Code: (?P<code>[A-Z_]+) \((?P<status>\d{3})\)\.")

_HEAD = """\
# Errors

<!-- Generated from proto/moleculeai/error/v1/error_reason.proto by tools/errors_doc.py. -->

Every error carries a stable reason. Branch on it, never on the text.

| Caller | Where the reason is | Where the sentence is |
|---|---|---|
| gRPC | `google.rpc.ErrorInfo` in the status details, domain `moleculeai.dev` | status message |
| REST | the HTTP status tells as much as existing clients need | `{"error": "..."}` |

`google.rpc.BadRequest` names the invalid fields. `google.rpc.RetryInfo` and the `Retry-After`
header say how long to wait before a retry.

| Reason | gRPC | HTTP | Meaning |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Reason:
    """One value of the catalogue; `code` and `http_status` are None if no call ends with it."""

    name: str
    meaning: str
    code: str | None
    http_status: int | None


def read_reasons(contract: Contract) -> Iterator[Reason]:
    """The catalogue in the proto's order, without the zero value, which is never sent."""
    for value in contract.enum(REASONS).values[1:]:
        comment = " ".join(contract.comment(f"{REASONS}.{value.name}").split())
        found = _CODE.search(comment)
        yield Reason(
            name=value.name.removeprefix(PREFIX),
            meaning=_CODE.sub("", comment, count=1),
            code=found["code"] if found else None,
            http_status=int(found["status"]) if found else None,
        )


def render(contract: Contract) -> str:
    """The whole page as Markdown."""
    rows = [
        f"| `{reason.name}` | {reason.code or ''} | {reason.http_status or ''} "
        f"| {reason.meaning.replace('|', chr(92) + '|')} |"
        for reason in read_reasons(contract)
    ]
    return _HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Entry of `python -m tools.errors_doc`."""
    print(render(Contract.load(Path(sys.argv[1]))), end="")


if __name__ == "__main__":
    main()
