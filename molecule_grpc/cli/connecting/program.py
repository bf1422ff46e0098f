"""The agent as a Python program: made once, and given another identity later."""

from __future__ import annotations

import re

from molecule_grpc.cli.connecting.entry import CannotEdit, Entry


def with_identity(text: str, entry: Entry, made: str) -> str:
    """The agent's program. In an existing program only three values are changed.

    Args:
        made: the program as the platform writes it, with the token.

    Raises:
        CannotEdit: the program that is there names none of the three values.
    """
    if not text:
        return made
    values = {
        "PLATFORM_URL": entry.platform_url,
        "WORKSPACE_ID": entry.workspace_id,
        "AUTH_TOKEN": entry.token,
    }
    for name, value in values.items():
        text, count = re.subn(
            rf'^({name}\s*=\s*)"[^"\n]*"', rf'\g<1>"{value}"', text, count=1, flags=re.MULTILINE
        )
        if not count:
            raise CannotEdit(f"it is another program: it sets no {name}")
    return text
