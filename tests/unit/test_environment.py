"""The variables that agents are started with, and those that they cannot do without."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.backends.provisioning.environment import Described, environment
from molecule_grpc.backends.provisioning.preflight import MOST_PARSED_BYTES, missing

WORKSPACE = Described(uuid.UUID(int=7), "Data Miner", "digs", "langgraph", 2, "", None)


def started_with(row: Described, **secrets: str) -> dict[str, str]:
    return environment(row, secrets, token="t", platform_url="http://platform")


def test_an_agent_commits_under_its_own_name() -> None:
    env = started_with(WORKSPACE)
    for who in ("AUTHOR", "COMMITTER"):
        assert env[f"GIT_{who}_NAME"] == "Molecule AI Data Miner"
        assert env[f"GIT_{who}_EMAIL"] == "data-miner@agents.moleculesai.app"
    assert env["MOLECULE_AGENT_ROLE"] == "digs"


def test_a_secret_wins_over_what_is_usual_and_never_over_what_is_the_platforms() -> None:
    env = started_with(WORKSPACE, GIT_AUTHOR_NAME="Somebody", WORKSPACE_ID="another", X="1")
    assert env["GIT_AUTHOR_NAME"] == "Somebody"
    assert env["WORKSPACE_ID"] == str(WORKSPACE.id)
    assert env["X"] == "1"


@pytest.mark.parametrize("name", ["", " \n", "<>"])
def test_without_a_name_there_is_no_identity(name: str) -> None:
    assert "GIT_AUTHOR_NAME" not in started_with(WORKSPACE._replace(name=name))


@given(st.text(min_size=1))
def test_an_identity_is_one_that_git_takes(name: str) -> None:
    env = started_with(WORKSPACE._replace(name=name))
    author, mail = env.get("GIT_AUTHOR_NAME", "x"), env.get("GIT_AUTHOR_EMAIL", "a@b")
    assert not set(author + mail) & set("<>\n\0\r")
    assert mail.partition("@")[0]


@pytest.mark.parametrize(
    ("runtime", "own", "secret", "expected"),
    [
        ("hermes", "", "", None),
        ("hermes", "own", "", "own"),
        ("hermes", "own", "chosen", "chosen"),
        ("langgraph", "own", "chosen", None),
    ],
)
def test_hermes_reads_its_model_from_a_variable_of_its_own(
    runtime: str, own: str, secret: str, expected: str | None
) -> None:
    row = WORKSPACE._replace(runtime=runtime, model=own)
    env = started_with(row, **({"MODEL_PROVIDER": secret} if secret else {}))
    assert env.get("HERMES_DEFAULT_MODEL") == expected
    assert env.get("MODEL_PROVIDER") == (secret or own or None)


def test_what_is_required_must_be_set_and_not_empty() -> None:
    config = (
        b"runtime_config:\n  required_env: [B_KEY, A_KEY, EMPTY, SET, B_KEY, 'not a name', 7]\n"
    )
    assert missing(config, {"SET": "1", "EMPTY": ""}) == ["A_KEY", "B_KEY", "EMPTY"]


@pytest.mark.parametrize(
    "config",
    [
        b"required_env: [A]",  # of another place
        b"runtime_config: {required_env: A}",
        b"runtime_config: {required_env: [A",
        b"required_env: !!python/object/apply:os.system [x]",
        b"required_env: !!bool abc",
        b"required_env: !!int ''",
        b"required_env: !!timestamp 5",
        b"\xff required_env",
        b"required_env: " + b"[" * 5000,
        b"runtime_config: {required_env: [A]} #" + b"x" * MOST_PARSED_BYTES,
    ],
)
def test_a_configuration_that_says_nothing_readable_requires_nothing(config: bytes) -> None:
    assert missing(config, {}) == []
