"""Settings: garbage never stops a start, open doors do in production, secrets stay secret."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from molecule_grpc.settings import Settings, SettingsError

VARIABLES = [item.metadata["variable"] for item in fields(Settings) if item.metadata]
SECRETS = [item.metadata["variable"] for item in fields(Settings) if item.metadata.get("secret")]
DOORS = ["MOLECULE_OPEN_BOOTSTRAP", "MOLECULE_OPEN_REGISTRATION", "MOLECULE_ENABLE_TEST_TOKENS"]
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=12)


def test_nothing_set_means_the_defaults_without_a_word() -> None:
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.warnings == ()


def test_no_two_settings_read_the_same_variable() -> None:
    assert len(set(VARIABLES)) == len(VARIABLES)


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_env(dict.fromkeys(VARIABLES, "")) == Settings()


@given(st.dictionaries(st.sampled_from(VARIABLES), TEXT))
@example({"MOLECULE_DATA_DIR": "~nobody-here/data"})
@example({"MOLECULE_GROUP_COMMIT_LINGER_MS": "nan"})
@example({"PORT": "1e3"})
def test_garbage_is_never_more_than_a_warning(environment: dict[str, str]) -> None:
    """Whatever stands in a variable, the program starts with sane values."""
    settings = Settings.from_env(environment)
    assert 0 < settings.port < 65536
    assert settings.workers > 0
    assert 0 <= settings.group_commit_linger_ms < float("inf")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "eighty"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("WORKERS", "-1"),
        ("LOG_LEVEL", "loud"),
        ("MOLECULE_DRAIN_SECONDS", "nan"),
        ("MOLECULE_DRAIN_SECONDS", "inf"),
        ("MOLECULE_GROUP_COMMIT_LINGER_MS", "-1"),
        ("MOLECULE_DATA_DIR", "~nobody-here/data"),
        ("MOLECULE_INBOX_NOTIFY", "yes"),
        ("MOLECULE_ENV", "staging"),
        ("MOLECULE_DEPLOY_MODE", "cloud"),
    ],
)
def test_garbage_means_the_default_and_one_warning(variable: str, text: str) -> None:
    settings = Settings.from_env({variable: text})
    assert settings == Settings(warnings=settings.warnings)
    (warning,) = settings.warnings
    assert variable in warning
    assert text in warning


@pytest.mark.parametrize("door", DOORS)
def test_production_refuses_an_open_door(door: str) -> None:
    with pytest.raises(SettingsError, match=door):
        Settings.from_env({"MOLECULE_ENV": "production", door: "1"})


@pytest.mark.parametrize("door", DOORS)
def test_an_open_door_is_said_elsewhere(door: str) -> None:
    (warning,) = Settings.from_env({door: "1"}).warnings
    assert door in warning


@pytest.mark.parametrize("word", ["true", "on", "01", "2"])
@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_at_one_word_only(door: str, word: str) -> None:
    settings = Settings.from_env({door: word})
    assert settings == Settings(warnings=settings.warnings)


@pytest.mark.parametrize("name", ["development", "dev", "Development"])
def test_development_is_said(name: str) -> None:
    settings = Settings.from_env({"MOLECULE_ENV": name})
    assert settings.development
    assert "without a token" in settings.warnings[0]


def test_secrets_are_shown_nowhere() -> None:
    """Neither by `doctor`, nor by a log line that prints the settings."""
    settings = Settings.from_env({name: f"hush-{name}" for name in SECRETS})
    assert SECRETS
    assert {settings.describe()[name] for name in SECRETS} == {"***"}
    assert "hush" not in repr(settings)


def test_an_unset_secret_is_shown_as_unset() -> None:
    assert Settings().describe()["ADMIN_TOKEN"] == ""


def test_every_variable_is_described() -> None:
    assert set(Settings().describe()) == set(VARIABLES)


def test_a_flag_of_the_original_has_no_effect_and_says_so() -> None:
    (warning,) = Settings.from_env({"DELEGATION_LEDGER_WRITE": "0"}).warnings
    assert "no effect" in warning
    assert Settings.from_env({"DELEGATION_LEDGER_WRITE": "1"}).warnings == ()


def test_saas_is_stated_or_follows_from_the_organisation() -> None:
    assert Settings.from_env({"MOLECULE_ORG_ID": "acme"}).default_tier == 4
    stated = {"MOLECULE_ORG_ID": "acme", "MOLECULE_DEPLOY_MODE": "standalone"}
    assert Settings.from_env(stated).default_tier == 3


def test_home_is_expanded() -> None:
    assert Settings.from_env({"MOLECULE_DATA_DIR": "~/m"}).data_dir == Path.home() / "m"


def test_speaking_to_the_human_is_allowed_by_one_word_only() -> None:
    """D48: the tool is there when the variable says `true`; anything else is a warning."""
    name = "MOLECULE_MCP_ALLOW_SEND_MESSAGE"
    assert Settings.from_env({name: "true"}).mcp_send_message
    for word in ("1", "yes", "TRUE"):
        settings = Settings.from_env({name: word})
        assert not settings.mcp_send_message
        assert name in settings.warnings[0]
