"""Settings: what cannot be understood refuses to start, open doors do too in production."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from molecule_grpc.auth.tokens import mint
from molecule_grpc.backends.engines import starts_on
from molecule_grpc.settings.settings import Settings, variables
from molecule_grpc.settings.values import SettingsError
from tests.settings import all_variables

VARIABLES = all_variables()
SECRETS = all_variables(secret=True)
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


def test_what_is_shown_can_be_set() -> None:
    """An operator copies a line of `doctor` into the environment."""
    shown = Settings().describe()
    assert shown["MOLECULE_INBOX_NOTIFY"] == "1"
    assert shown["MOLECULE_MCP_ALLOW_SEND_MESSAGE"] == "false"
    assert Settings.from_env(shown) == Settings()


@given(st.dictionaries(st.sampled_from(VARIABLES), TEXT))
@example({"MOLECULE_DATA_DIR": "~nobody-here/data"})
@example({"MOLECULE_GROUP_COMMIT_LINGER_MS": "nan"})
@example({"PORT": "1e3"})
def test_any_environment_gives_sane_values_or_refuses(environment: dict[str, str]) -> None:
    """Nothing but `SettingsError` ever comes of a variable, and what is taken makes sense."""
    try:
        settings = Settings.from_env(environment)
    except SettingsError:
        return
    assert 0 < settings.edge.port < 65536
    assert settings.process.workers > 0
    assert 0 <= settings.process.group_commit_linger_ms < float("inf")


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("PORT", "eighty", "from 1 to 65535"),
        ("PORT", "80000", "from 1 to 65535"),
        ("PORT", "0", "from 1 to 65535"),
        ("MOLECULE_OPERATOR_PORT", "-1", "from 0 to 65535"),
        ("WORKERS", "-1", "of at least 1"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error or critical"),
        ("MOLECULE_DRAIN_SECONDS", "nan", "above 0"),
        ("MOLECULE_DRAIN_SECONDS", "inf", "above 0"),
        ("DELEGATION_SWEEPER_INTERVAL_S", "0", "above 0"),
        ("DELEGATION_STUCK_THRESHOLD_S", "-5", "above 0"),
        ("MOLECULE_GROUP_COMMIT_LINGER_MS", "-1", "of at least 0"),
        ("MOLECULE_ACCESS_LOG", "some", "off, all or a share from 0.000001 to below 1"),
        ("MOLECULE_ACCESS_LOG", "0", "off, all or a share"),
        ("MOLECULE_ACCESS_LOG", "1", "off, all or a share"),
        ("MOLECULE_ACCESS_LOG", "nan", "off, all or a share"),
        ("MOLECULE_ACCESS_LOG", "-0.5", "off, all or a share"),
        ("MOLECULE_UPLOAD_STORE", "gcs", "postgres, s3 or off"),
        ("MOLECULE_UPLOAD_MAX_BYTES", "104857601", "from 1 to 104857600"),
        ("MOLECULE_DATA_DIR", "~nobody-here/data", "a path"),
        ("MOLECULE_INBOX_NOTIFY", "yes", "1 or 0"),
        ("MOLECULE_MCP_ALLOW_SEND_MESSAGE", "1", "true or false"),
        ("MOLECULE_ENV", "staging", "development or production"),
        ("MOLECULE_ENV", "prod ", "development or production"),
        ("MOLECULE_DEPLOY_MODE", "cloud", "saas or self-hosted"),
    ],
)
def test_what_cannot_be_understood_refuses_to_start(variable: str, text: str, allowed: str) -> None:
    """The message names the variable, its text and what is allowed."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({variable: text})
    for part in (variable, repr(text), allowed):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("text", "share"), [("", 0.0), ("off", 0.0), ("all", 1.0), ("ALL", 1.0), ("0.25", 0.25)]
)
def test_a_share_of_calls_is_read_and_shown(text: str, share: float) -> None:
    settings = Settings.from_env({"MOLECULE_ACCESS_LOG": text})
    assert settings.edge.access_log_share == share
    assert dict(settings.describe())["MOLECULE_ACCESS_LOG"] == (text.lower() or "off")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MOLECULE_UPLOAD_STOR", "MOLECULE_UPLOAD_STORE"),
        ("MOLECULE_INBOX_LEASE", "MOLECULE_INBOX_LEASE_SECONDS"),
        ("MOLECULE_TOKENS", "MOLECULE_TOKEN"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(name: str, near: str) -> None:
    (warning,) = Settings.from_env({name: "x"}).warnings
    assert warning == f"{name} is not a setting and has no effect; did you mean {near}?"


def test_variables_of_clients_and_of_others_are_not_unknown() -> None:
    environment = {"MOLECULE_TOKEN": "t", "MOLECULE_URL": "u", "PATH": "p"}
    assert Settings.from_env(environment).warnings == ()


@pytest.mark.parametrize("door", DOORS)
def test_production_refuses_an_open_door(door: str) -> None:
    with pytest.raises(SettingsError, match=door):
        Settings.from_env({"MOLECULE_ENV": "production", door: "1"})


@pytest.mark.parametrize("token", ["a", "x" * 43, "short-but-mixed-0123"])
def test_production_refuses_a_token_that_can_be_guessed(token: str) -> None:
    with pytest.raises(SettingsError, match="ADMIN_TOKEN"):
        Settings.from_env({"MOLECULE_ENV": "production", "ADMIN_TOKEN": token})
    (warning,) = Settings.from_env({"ADMIN_TOKEN": token}).warnings
    assert "ADMIN_TOKEN" in warning


def test_production_takes_a_token_of_our_own_making() -> None:
    for _ in range(100):
        Settings.from_env({"MOLECULE_ENV": "production", "ADMIN_TOKEN": mint().text})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_development_listens_on_this_machine_only(host: str) -> None:
    with pytest.raises(SettingsError, match="MOLECULE_HOST"):
        Settings.from_env({"MOLECULE_ENV": "development", "MOLECULE_HOST": host})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_development_listens_on_any_loopback_address(host: str) -> None:
    Settings.from_env({"MOLECULE_ENV": "development", "MOLECULE_HOST": host})


@pytest.mark.parametrize("door", DOORS)
def test_an_open_door_is_said_elsewhere(door: str) -> None:
    (warning,) = Settings.from_env({door: "1"}).warnings
    assert door in warning


@pytest.mark.parametrize("word", ["true", "on", "01", "2"])
@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_at_one_word_only(door: str, word: str) -> None:
    with pytest.raises(SettingsError, match=door):
        Settings.from_env({door: word})


@pytest.mark.parametrize("name", ["development", "dev", "Development"])
def test_development_is_said(name: str) -> None:
    settings = Settings.from_env({"MOLECULE_ENV": name})
    assert settings.deployment.development
    assert "without a token" in settings.warnings[0]


def test_secrets_are_shown_nowhere() -> None:
    """Neither by `doctor`, nor by a log line that prints the settings."""
    settings = Settings.from_env({name: f"hush-{name}".ljust(32, "-") for name in SECRETS})
    assert SECRETS
    assert {settings.describe()[name] for name in SECRETS} == {"***"}
    assert "hush" not in repr(settings)


def test_an_unset_secret_is_shown_as_unset() -> None:
    assert Settings().describe()["ADMIN_TOKEN"] == ""


def test_every_variable_is_described() -> None:
    assert set(Settings().describe()) == set(variables()) == set(VARIABLES)


def test_a_flag_of_the_original_has_no_effect_and_says_so() -> None:
    (warning,) = Settings.from_env({"DELEGATION_LEDGER_WRITE": "0"}).warnings
    assert "no effect" in warning
    assert Settings.from_env({"DELEGATION_LEDGER_WRITE": "1"}).warnings == ()


def test_saas_is_stated_or_follows_from_the_organisation() -> None:
    assert Settings.from_env({"MOLECULE_ORG_ID": "acme"}).deployment.default_tier == 4
    stated = {"MOLECULE_ORG_ID": "acme", "MOLECULE_DEPLOY_MODE": "standalone"}
    assert Settings.from_env(stated).deployment.default_tier == 3


def test_home_is_expanded() -> None:
    settings = Settings.from_env({"MOLECULE_DATA_DIR": "~/m"})
    assert settings.process.data_dir == Path.home() / "m"


def test_speaking_to_the_human_is_allowed_by_one_word_only() -> None:
    """D48: the tool is there when the variable says `true`."""
    name = "MOLECULE_MCP_ALLOW_SEND_MESSAGE"
    assert Settings.from_env({name: "true"}).faces.mcp_send_message
    for word in ("1", "yes", "TRUE"):
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({name: word})


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("fd00::7", "http://[fd00::7]:8080"),
    ],
)
def test_the_edge_is_reached_from_this_machine_whatever_it_listens_on(host: str, url: str) -> None:
    assert Settings.from_env({"MOLECULE_HOST": host}).edge.local_url == url


def test_a_control_plane_needs_an_address() -> None:
    for env in (
        {"MOLECULE_BACKEND": "control-plane"},
        {"MOLECULE_BACKENDS_KEPT": "control-plane"},
    ):
        with pytest.raises(SettingsError, match="needs CP_PROVISION_URL"):
            Settings.from_env(env)
    url = {"CP_PROVISION_URL": "https://cp.example/"}
    settings = Settings.from_env({"MOLECULE_BACKEND": "control-plane", **url})
    assert settings.control_plane.base_url == "https://cp.example"


def test_a_control_plane_is_used_unasked_only_where_it_is_fully_given() -> None:
    """8.1: nothing is started for want of an address, nor for want of an organisation."""
    organization, url = {"MOLECULE_ORG_ID": "org-1"}, {"MOLECULE_CP_URL": "https://cp.example"}
    for env in ({}, organization, url, {**organization, **url, "MOLECULE_BACKEND": "none"}):
        assert starts_on(Settings.from_env(env)) == "none"
    assert starts_on(Settings.from_env({**organization, **url})) == "control-plane"
