"""The texts that people paste to connect an agent, one file each, with URL and id filled in."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final
from uuid import UUID

# Stand for the token. Consoles and `molecule-grpc connect` put the token in their place.
TOKEN_MARK: Final = "<paste from create response>"
CHANNEL_TOKEN_MARK: Final = "<paste auth_token from create response>"
_FOLDER: Final = Path(__file__).with_name("templates")


def filled(name: str, platform_url: str, workspace_id: UUID) -> str:
    """A text by the name of its file.

    Args:
        platform_url: without characters that a shell would read.
    """
    text = _template(name).replace("{{PLATFORM_URL}}", platform_url)
    return text.replace("{{WORKSPACE_ID}}", str(workspace_id))


@functools.cache
def _template(name: str) -> str:
    return (_FOLDER / f"{name}.tmpl").read_text()
