"""Writes every generated page of docs/ anew (`make docs`), or says which ones are not current.

python -m tools.pages [check]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tools import (
    backends_doc,
    errors_doc,
    events_doc,
    metrics_doc,
    rpcs_doc,
    sdk_doc,
    settings_doc,
    states_doc,
)
from tools.descriptors import Contract

DOCS = Path(__file__).parent.parent / "docs"
_BUF = str(Path(sys.executable).with_name("buf"))


def pages() -> dict[str, Callable[[], str]]:
    """Each generated page's name with the function that gives its text."""
    return {
        "backends.md": lambda: backends_doc.render((DOCS / "backends.md").read_text()),
        "errors.md": lambda: errors_doc.render(_commented_contract()),
        "events.md": events_doc.render,
        "operating.md": _operating,
        "rpcs.md": lambda: rpcs_doc.render(Contract.load()),
        "sdk.md": sdk_doc.render,
        "states.md": states_doc.render,
    }


def stale() -> list[str]:
    """Names of pages that differ from what the code gives now."""
    return [name for name, text in pages().items() if (DOCS / name).read_text() != text()]


def _operating() -> str:
    page = settings_doc.render((DOCS / "operating.md").read_text())
    return metrics_doc.render(page)


def _commented_contract() -> Contract:
    """The contract with its comments, which gen/descriptor.binpb leaves out."""
    with tempfile.NamedTemporaryFile(suffix=".binpb") as file:
        subprocess.run(
            [_BUF, "build", ".", "--as-file-descriptor-set", "-o", file.name],
            cwd=DOCS.parent,
            check=True,
        )
        return Contract.load(Path(file.name))


def main() -> None:
    """Entry of `python -m tools.pages`."""
    if sys.argv[1:] == ["check"]:
        if names := stale():
            sys.exit(f"not current, run `make docs`: {', '.join(names)}")
        return
    for name, text in pages().items():
        (DOCS / name).write_text(text())


if __name__ == "__main__":
    main()
