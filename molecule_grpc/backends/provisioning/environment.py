"""The variables that an agent is started with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.runtimes import MODEL_SECRET

_HERMES: Final = "hermes"
_MAIL_DOMAIN: Final = "agents.moleculesai.app"
# What git refuses in names, or reads as the end of one.
_NOT_IN_NAMES: Final = re.compile(r"[\x00-\x1f\x7f<>]+")
_NOT_IN_MAIL: Final = re.compile(r"[^a-z0-9]+")
_LONGEST_SLUG: Final = 60


class Described(NamedTuple):
    """The columns of a workspace that its variables are made of.

    Args:
        model: of the assigned agent, or what the workspace was created with; empty for neither.
        parent_id: None for a root.
    """

    id: UUID
    name: str
    role: str
    runtime: str
    tier: int
    model: str
    parent_id: UUID | None


def environment(
    row: Described, secrets: Mapping[str, str], *, token: str, platform_url: str
) -> dict[str, str]:
    """Who the agent is and how it reaches the platform, over its secrets, over what is usual.

    Args:
        platform_url: empty for what the backend knows.
    """
    return {
        **_identity(row.name),
        **_choices(row),
        **secrets,
        **_model_of_hermes(row, secrets),
        **_own(row, token, platform_url),
    }


def _identity(name: str) -> dict[str, str]:
    """Who commits. Nothing for a name of which git would take no character."""
    shown = _NOT_IN_NAMES.sub(" ", name).strip()
    slug = _NOT_IN_MAIL.sub("-", name.lower()).strip("-")[:_LONGEST_SLUG].strip("-")
    if not shown:
        return {}
    author, mail = f"Molecule AI {shown}", f"{slug or 'agent'}@{_MAIL_DOMAIN}"
    return {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", author), ("EMAIL", mail))
    }


def _choices(row: Described) -> dict[str, str]:
    chosen = {"MOLECULE_AGENT_ROLE": row.role, MODEL_SECRET: row.model}
    return {key: value for key, value in chosen.items() if value}


def _model_of_hermes(row: Described, secrets: Mapping[str, str]) -> dict[str, str]:
    """Hermes alone reads its model from HERMES_DEFAULT_MODEL."""
    model = secrets.get(MODEL_SECRET) or row.model
    if row.runtime != _HERMES or not model or secrets.get("HERMES_DEFAULT_MODEL"):
        return {}
    return {"HERMES_DEFAULT_MODEL": model}


def _own(row: Described, token: str, platform_url: str) -> dict[str, str]:
    own = {
        "WORKSPACE_ID": str(row.id),
        "WORKSPACE_CONFIG_PATH": "/configs",
        "TIER": str(row.tier),
        "MOLECULE_TOKEN": token,
    }
    if row.parent_id is not None:
        own["PARENT_ID"] = str(row.parent_id)
    if platform_url:
        own["PLATFORM_URL"] = own["MOLECULE_URL"] = platform_url
    return own
