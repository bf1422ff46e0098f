"""Prints the HTTP surface, one line per binding of an RPC: a changed URL shows in the diff.

`buf breaking` compares messages but no URLs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tools.descriptors import Contract


def lines(contract: Contract) -> Iterator[str]:
    """One line per binding: RPC, verb, path, body, success statuses, bare array, SSE."""
    for rpc in contract.rpcs():
        for binding in rpc.bindings:
            parts = [f"{rpc.service}.{rpc.name}", binding.verb, binding.path]
            parts.append(f"body={binding.body or '-'}")
            statuses = (rpc.face.success_status, *rpc.face.other_statuses)
            parts.append(f"status={','.join(map(str, statuses))}")
            parts.append(f"array={rpc.face.bare_array or '-'}")
            parts.append(f"sse={'yes' if rpc.face.sse else 'no'}")
            yield " ".join(parts)


if __name__ == "__main__":
    print("\n".join(sorted(lines(Contract.load(Path(sys.argv[1]))))))
