"""Decisions about configuration that need no database."""

from __future__ import annotations

from typing import Final

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.runtimes import Model, default_model

MAX_PATCH_BYTES: Final = 256 * 1024
MAX_CONFIG_BYTES: Final = 512 * 1024
MAX_BUDGET_CENTS: Final = 1_000_000_000_000

# US dollars for a token.
_INPUT_DOLLARS: Final = 3 / 1_000_000
_OUTPUT_DOLLARS: Final = 15 / 1_000_000

_AGENT: Final = "agent"
_WORKSPACE: Final = "workspace"
_DEFAULT: Final = "default"


def check_patch(text: str) -> str:
    """A change of a configuration, as JSON text.

    Raises:
        Invalid: BODY_TOO_LARGE: more than 256 KiB.
    """
    if len(text) > MAX_PATCH_BYTES:
        raise too_large(MAX_PATCH_BYTES)
    return text


def too_large(limit: int) -> Invalid:
    """What is told of a configuration that exceeds a limit in bytes."""
    return Invalid(
        f"a configuration must not be larger than {limit} bytes",
        field="data",
        reason="BODY_TOO_LARGE",
        metadata={"max": str(limit)},
    )


def check_model(model: str) -> str:
    """A model on one line, whether the platform knows it or not.

    Raises:
        Invalid: field `model`.
    """
    if any(ord(character) < 32 or character == "\x7f" for character in model):
        raise Invalid("model must not contain line breaks or control characters", field="model")
    return model


def check_budget(cents: float | None) -> int | None:
    """A limit in whole US cents a month; None for no limit.

    Raises:
        Invalid: field `budget_limit`: negative, not a number, or above 1e12.
    """
    if cents is None:
        return None
    if not 0 <= cents <= MAX_BUDGET_CENTS:
        raise Invalid("budget_limit must be 0 to 1000000000000, or null", field="budget_limit")
    return round(cents)


def model_in_force(secret: Model | None, agent: str | None, own: str | None, runtime: str) -> Model:
    """The model that an agent is started with.

    Args:
        secret: of the nearest owner of such a secret.
        agent: of the assigned agent.
        own: what the workspace was created with.
    """
    if secret is not None:
        return secret
    if agent:
        return Model(agent, _AGENT)
    return Model(own, _WORKSPACE) if own else Model(default_model(runtime), _DEFAULT)


def estimated_cost(input_tokens: int, output_tokens: int) -> str:
    """The cost of so many tokens in US dollars, with six decimals."""
    return f"{input_tokens * _INPUT_DOLLARS + output_tokens * _OUTPUT_DOLLARS:.6f}"
