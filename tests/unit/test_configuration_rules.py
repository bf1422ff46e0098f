"""Decisions about configuration: models, budgets, costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.configuration import rules
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.runtimes import UNIVERSAL_MODEL, Model, default_model

RUNTIMES = (
    "langgraph", "openclaw", "crewai", "autogen", "deepagents", "hermes", "codex", "gemini-cli",
    "external", "", "nobody-knows", "CLAUDE-CODE",
)  # fmt: skip


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_w1_any_other_runtime_has_the_universal_model(runtime: str) -> None:
    assert default_model(runtime) == UNIVERSAL_MODEL == "anthropic:claude-opus-4-7"


def test_w1_claude_code_has_its_own_model() -> None:
    assert default_model("claude-code") == "sonnet"


@given(st.text())
def test_w1_a_default_is_never_empty(runtime: str) -> None:
    assert default_model(runtime)


def test_the_nearest_word_on_a_model_wins() -> None:
    secret = Model("secret", "workspace_secrets")
    found = [
        rules.model_in_force(secret, "agent", "own", "claude-code"),
        rules.model_in_force(None, "agent", "own", "claude-code"),
        rules.model_in_force(None, None, "own", "claude-code"),
        rules.model_in_force(None, None, None, "claude-code"),
    ]
    assert found == [
        secret, Model("agent", "agent"), Model("own", "workspace"), Model("sonnet", "default"),
    ]  # fmt: skip


@pytest.mark.parametrize(("cents", "stored"), [(None, None), (0.0, 0), (12.6, 13), (1e12, 10**12)])
def test_a_budget_is_in_whole_cents(cents: float | None, stored: int | None) -> None:
    assert rules.check_budget(cents) == stored


@pytest.mark.parametrize("cents", [-0.01, 1e13, math.inf, math.nan])
def test_a_budget_has_bounds(cents: float) -> None:
    with pytest.raises(Invalid):
        rules.check_budget(cents)


def test_a_cost_has_six_decimals() -> None:
    assert rules.estimated_cost(1_000_000, 1_000_000) == "18.000000"
    assert rules.estimated_cost(1, 0) == "0.000003"
