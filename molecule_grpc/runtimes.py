"""Runtimes, the kinds of agents, and the models that they work with."""

from __future__ import annotations

from typing import Final, NamedTuple

# The model of a runtime that has no default of its own.
UNIVERSAL_MODEL: Final = "anthropic:claude-opus-4-7"
# The secret by which somebody chooses the model of a workspace, or of all in an organisation.
MODEL_SECRET: Final = "MODEL_PROVIDER"


class Model(NamedTuple):
    """A model, and who says so.

    Args:
        source: `workspace_secrets`, `organization_secrets`, `global_secrets`, `agent`, `workspace`
            or `default`.
    """

    model: str
    source: str


_MODELS: Final = {"claude-code": "sonnet"}


def default_model(runtime: str) -> str:
    """The model of a workspace for which nobody has chosen one; never empty.

    Args:
        runtime: compared exactly, in upper and lower case.
    """
    return _MODELS.get(runtime, UNIVERSAL_MODEL)
