"""A file with a token in it: readable by its owner alone, replaced as a whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_PRIVATE = 0o600


def edit(path: Path, change: Callable[[str], str], *, only_check: bool = False) -> bool:
    """Change a text file. Whether the text is another one now; without a change nothing is written.

    Args:
        only_check: find out whether the change is possible, and write nothing.

    Raises:
        OSError: the file cannot be read or written.
        UnicodeDecodeError: the file is not text.
        CannotEdit: from `change`; the file is as it was.
    """
    # A link is followed: people keep their configuration elsewhere.
    path = path.resolve()
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    after = change(before)
    if after == before or only_check:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(after)
        Path(name).chmod(_PRIVATE)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return True
