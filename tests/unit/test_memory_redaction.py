"""Secrets become `[REDACTED:<label>]`, in texts and in JSON; words stay words."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from molecule_grpc.memory.redaction import redact, redact_data, redact_json

RUN = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ"
PEM = (
    "-----BEGIN {kind}PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq8\nx3Jm9Kf2LwPz4\n"
    "-----END {kind}PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    ("text", "secret", "label"),
    [
        ("OPENAI_API_KEY=abc123", "abc123", "API_KEY"),
        ("export my_api_key = 'v4lue-9'", "v4lue-9", "API_KEY"),
        ("SLACK_TOKEN=xyzw-1234", "xyzw-1234", "TOKEN"),
        ("CLIENT_SECRET=s3cr3t!", "s3cr3t!", "SECRET"),
        ("Authorization: Bearer abc.def-123", "abc.def-123", "BEARER_TOKEN"),
        ("authorization: bearer abc.def-123", "abc.def-123", "BEARER_TOKEN"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "BASIC_AUTH"),
        (f"sk-{RUN}", RUN, "SK_TOKEN"),
        ("ctx7_abc", "ctx7_abc", "CTX7_TOKEN"),
        (f"ghp_{RUN}", RUN, "GITHUB_TOKEN"),
        (f"ghs_{RUN}", RUN, "GITHUB_TOKEN"),
        (f"github_pat_{RUN}", RUN, "GITHUB_TOKEN"),
        (f"vc_{RUN}", RUN, "VC_TOKEN"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE", "AWS_KEY_ID"),
        (f"pplx-{RUN}", RUN, "PPLX_TOKEN"),
        ("xoxb-123456789012-abcdefABCDEF", "123456789012", "SLACK_TOKEN"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "AIzaSyA123", "GOOGLE_KEY"),
        (f"glpat-{RUN}", RUN, "GITLAB_TOKEN"),
        (
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
            "eyJzdWIiOiIxMjM0In0",
            "JWT",
        ),
        ("postgres://ann:hunter2@db/x", "hunter2", "CONNECTION_URL"),
        ("postgresql://:hunter2@db/x", "hunter2", "CONNECTION_URL"),
        ("mongodb+srv://ann:p%40ss@db/x", "p%40ss", "CONNECTION_URL"),
        ("redis://:hunter2@db:6379/0", "hunter2", "CONNECTION_URL"),
        ("amqps://ann:hunter2@mq", "hunter2", "CONNECTION_URL"),
        ("mysql://ann:p@ss@db", "p@ss", "CONNECTION_URL"),
        ("password: hunter2!", "hunter2!", "PASSWORD"),
        ("passwd=hunter2!", "hunter2!", "PASSWORD"),
        ('{"pwd": "hunter2!"}', "hunter2!", "PASSWORD"),
        (f"token={'a1' * 20}", "a1a1", None),
        (PEM.format(kind=""), "MIIEowIBAAKCAQEA7bq8", "PRIVATE_KEY"),
        (PEM.format(kind="OPENSSH "), "x3Jm9Kf2LwPz4", "PRIVATE_KEY"),
        (PEM.format(kind="RSA ").partition("-----END")[0], "x3Jm9Kf2LwPz4", "PRIVATE_KEY"),
        (f"it is {RUN}{RUN} by the way", RUN, "BASE64_BLOB"),
    ],
)
def test_each_family_is_replaced(text: str, secret: str, label: str | None) -> None:
    clean, counts = redact(f"before {text} after")
    assert secret not in clean
    assert sum(counts.values()) >= 1
    assert clean.startswith("before ")
    if label is not None:
        assert f"[REDACTED:{label}]" in clean
        assert label in counts
    assert redact(clean) == (clean, {})


@pytest.mark.parametrize(
    "text",
    [
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "123e4567-e89b-12d3-a456-426614174000",
        "/usr/lib/python3.11/site-packages/molecule_grpc/memory/redaction.py",
        "https://example.com/a/very/long/path/that/goes/on/and/on/for/ever/index.html",
        "sha512-z3uXQ8G3nUp7v9dM0mVvT2l0aGlzIGlzIG5vdCBhIHNlY3JldCBhdCBhbGw0000==",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "basic authentication and bearer authentication are schemes",
        "the password is changed every month; ask for a token",
        "csrf_token = get_token(request)",
        "password=os.environ['PASSWORD']",
        "SomeVeryLongClassNameThatIsOnlyAFactoryForOtherFactories2",
        "see https://example.com:8080/page?at=a@b",
        "postgres://localhost:5432/molecule",
        "the API key goes into the header",
    ],
)
def test_words_paths_and_digests_stay(text: str) -> None:
    assert redact(text) == (text, {})


def test_a_direction_within_a_secret_hides_nothing() -> None:
    hidden = f"ghp_{RUN[:9]}\u202e{RUN[9:]}\u2066"
    assert redact(f"use {hidden}") == ("use [REDACTED:GITHUB_TOKEN]", {"GITHUB_TOKEN": 1})
    clean, counts = redact_json(json.dumps({"a": hidden}))
    assert (json.loads(clean), counts) == ({"a": "[REDACTED:GITHUB_TOKEN]"}, {"GITHUB_TOKEN": 1})


def test_names_that_become_equal_stay_apart() -> None:
    clean, _ = redact_data({f"ghp_{RUN}": 1, f"gho_{RUN}": 2})
    assert clean == {"[REDACTED:GITHUB_TOKEN]": 1, "[REDACTED:GITHUB_TOKEN] 2": 2}


_PARTS = st.sampled_from(
    [
        "sk-", RUN, "password=", "password: ", "Bearer ", "Authorization: ", "_TOKEN=",
        "[REDACTED:", "SK_TOKEN]", "]", "[", "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----", "\n",
        " ",
        "postgres://", "a:b@", "@", ":", "/", "eyJabcdefghij.", "AKIA", "ABCDEFGHIJKLMNOP", "ghp_",
        "=", "'", '"', "key", "-", "_", "x1",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(_PARTS, st.text(max_size=5)), max_size=14))
@example(["_TOKEN=", "Bearer Bearer aB3dE5gH7jK9mN1pQ3sT5vW7yZ"])
@example(["Basic Basic dXNlcjpwYXNzd29yZA=="])
def test_what_was_replaced_is_not_replaced_again(parts: list[str]) -> None:
    clean, _ = redact("".join(parts))
    assert redact(clean)[0] == clean


@given(
    st.recursive(
        st.one_of(st.none(), st.integers(), st.text(max_size=12), _PARTS),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(_PARTS, st.text(max_size=5)), inner),
        ),
        max_leaves=12,
    )
)
def test_json_keeps_its_shape(data: object) -> None:
    clean, counts = redact_data(data)
    if not counts:
        assert clean == data
    again, _ = redact_data(clean)
    assert again == clean


def test_json_is_cleaned_in_names_and_values_and_by_names() -> None:
    secret = f"ghp_{RUN}"
    data = {
        "password": "hunter2!",
        "deep": [{"x": [f"use {secret}"]}, {secret: 1}],
        "n": 7,
        "note": "nothing here",
        "API_KEY": "v4lue99",
    }
    clean, counts = redact_json(json.dumps(data))
    for gone in (secret, "hunter2!", "v4lue99"):
        assert gone not in clean
    assert json.loads(clean)["note"] == "nothing here"
    assert json.loads(clean)["n"] == 7
    assert counts["GITHUB_TOKEN"] == 2
    plain = '{"b": 1, "a": "words"}'
    assert redact_json(plain) == (plain, {})


def test_a_key_that_goes_on_in_another_text_hides_no_text() -> None:
    data = [
        "-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEA7bq8",
        "kept",
        "-----END PRIVATE KEY-----",
    ]
    clean, counts = redact_data(data)
    assert clean == ["[REDACTED:PRIVATE_KEY]", "kept", "-----END PRIVATE KEY-----"]
    assert counts == {"PRIVATE_KEY": 1}


@pytest.mark.clock
@pytest.mark.parametrize(
    "piece",
    [
        "sk-", "postgres://a:", "ftp://:", "ftp://:@", "ftp://:/a",
        "-----BEGIN PRIVATE KEY-----", "a_token=", "aB3", "_token",
        "Bearer ",
        "a", "password", "x-", "eyJaaaaaaaa.", "key=", "://", "https://", "authorization: ",
        "[REDACTED:", "curl -u a:", "a@", "AKIA", "=", "_-",
    ],
)  # fmt: skip
def test_a_hostile_text_takes_time_by_its_length_alone(piece: str) -> None:
    """Four times the text takes about four times as long: far from sixteen times."""

    def seconds(size: int) -> float:
        text = (piece * size)[:size]
        started = time.process_time()
        redact(text)
        return time.process_time() - started

    small, large = (min(seconds(size) for _ in range(3)) for size in (25_000, 100_000))
    assert large < 10 * max(small, 0.005)
    assert large < 2.0
