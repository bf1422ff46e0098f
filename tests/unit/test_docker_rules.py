"""What the Docker backend decides without an engine."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from molecule_grpc.backends.docker.archive import TarReader, archive_of, small_archive
from molecule_grpc.backends.docker.credentials import registry_header, registry_of
from molecule_grpc.backends.docker.names import moment
from molecule_grpc.backends.docker.rules import image_of, image_tag_is_moving, signal_of
from molecule_grpc.backends.references import pinned
from molecule_grpc.backends.sizes import TierSize, size_of


@pytest.mark.parametrize(
    ("reference", "moving"),
    [
        ("registry.example/team/agent", True),
        ("agent", True),
        ("registry.example/team/agent:latest", True),
        ("registry.example/team/agent:staging", True),
        ("registry.example/team/agent:main", True),
        ("registry.example/team/agent:dev", True),
        ("registry.example/team/agent:edge", True),
        ("registry.example/team/agent:nightly", True),
        ("registry.example/team/agent:rolling", True),
        ("registry.example/team/agent:0.8.2", False),
        ("registry.example/team/agent:v1.2.3", False),
        ("registry.example/team/agent:sha-abc1234", False),
        ("registry.example/team/agent:2026-04-30", False),
        ("registry.example/team/agent:build-12345", False),
        (f"registry.example/team/agent@sha256:{'a' * 64}", False),
        (f"registry.example/team/agent:latest@sha256:{'a' * 64}", False),
        ("localhost:5000/agent", True),
        ("localhost:5000/agent:0.8.2", False),
        ("localhost:5000/agent:latest", True),
        ("workspace-template:hermes", False),
        ("workspace-template:claude-code", False),
        # Used elsewhere as the name of a build, and counted as one.
        ("registry.example/team/agent:staging-latest", False),
    ],
)
def test_which_tags_move(reference: str, moving: bool) -> None:  # W34
    assert image_tag_is_moving(reference) is moving


def test_the_image_of_a_runtime() -> None:
    """W31: named for the runtime, for all, by the template; without a runtime the default's."""
    images = {"hermes": "mine:1"}
    template = "workspace-template:{runtime}"
    assert image_of("hermes", images, template, "langgraph") == "mine:1"
    assert image_of("crewai", images, template, "langgraph") == "workspace-template:crewai"
    assert image_of("", images, template, "langgraph") == "workspace-template:langgraph"
    assert image_of("crewai", {"*": "all:2"}, template, "langgraph") == "all:2"


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("agent", "agent"),
        ("agent:latest", "agent"),
        ("registry.example/team/agent:1.4", "registry.example/team/agent"),
        ("localhost:5000/agent", "localhost:5000/agent"),
        ("localhost:5000/agent:1.4", "localhost:5000/agent"),
        (f"localhost:5000/agent:1.4@sha256:{'b' * 64}", "localhost:5000/agent"),
    ],
)
def test_a_pin_takes_the_place_of_the_tag(reference: str, repository: str) -> None:  # W31
    digest = f"sha256:{'a' * 64}"
    assert pinned(reference, digest) == f"{repository}@{digest}"
    assert not image_tag_is_moving(pinned(reference, digest))


def test_limits_come_from_the_workload_then_the_settings_then_the_tier() -> None:
    own = {2: TierSize(1000, 0)}
    assert size_of(2, own, 0, 0) == TierSize(1000, 1024)
    assert size_of(2, own, 77, 0) == TierSize(77, 1024)
    assert size_of(3, own, 0, 0) == TierSize(2048, 2048)
    assert size_of(9, {}, 0, 0) == TierSize(512, 1024)
    assert size_of(1, {}, 0, 0) == TierSize(0, 0)


def test_a_signal_is_read_from_the_exit_code() -> None:
    assert [signal_of(code) for code in (0, 1, 128, 137, 143, 255)] == [
        None,
        None,
        None,
        9,
        15,
        None,
    ]


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-01-02T03:04:05.123456789Z", 123456),
        ("2026-01-02T03:04:05.12Z", 120000),
        ("2026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05.5+02:00", 500000),
    ],
)
def test_times_of_the_engine(text: str, microsecond: int) -> None:
    found = moment(text)
    assert found.microsecond == microsecond
    assert found.tzinfo is not None


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 512, 4096])
async def test_an_archive_is_read_in_pieces_of_any_size(size: int) -> None:
    files = {"a": b"", f"{'deep/' * 60}ü": b"x" * 700, "b": bytes(512)}
    reader = TarReader(_pieces(small_archive(files), size))
    found = {}
    while (entry := await reader.next()) is not None:
        found[entry.name] = b"".join([chunk async for chunk in reader.content(entry)])
    assert found == files


async def test_an_archive_holds_what_was_announced() -> None:
    written = b"".join([part async for part in archive_of("x", _pieces(b"hello", 2), 5)])
    reader = TarReader(_pieces(written, 100))
    entry = await reader.next()
    assert entry is not None
    assert b"".join([chunk async for chunk in reader.content(entry)]) == b"hello"
    for announced in (4, 6):
        with pytest.raises(ValueError, match="announced"):
            async for _ in archive_of("x", _pieces(b"hello", 2), announced):
                pass


def test_the_registry_of_an_image() -> None:
    assert registry_of("localhost:5000/agent:1") == "localhost:5000"
    assert registry_of("registry.example/agent") == "registry.example"
    assert registry_of("agent:1") == registry_of("team/agent")


def test_a_pull_shows_what_a_login_has_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert asyncio.run(registry_header("registry.example/agent")) == {}
    helper = tmp_path / "docker-credential-safe"
    helper.write_text(
        '#!/bin/sh\nread -r name\necho "{\\"Username\\":\\"u\\",\\"Secret\\":\\"$name\\"}"'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    stored = base64.b64encode(b"me:word").decode()
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "auths": {"registry.example": {"auth": stored}},
                "credHelpers": {"other.example": "safe", "gone.example": "absent"},
            }
        )
    )
    assert _shown("registry.example/agent") == {
        "username": "me",
        "password": "word",
        "serveraddress": "registry.example",
    }
    assert _shown("other.example/agent")["password"] == "other.example"
    assert asyncio.run(registry_header("gone.example/agent")) == {}


def test_a_registry_is_shown_what_the_settings_name_first() -> None:
    given = {"ghcr.io": ("me", "token")}
    assert _shown("ghcr.io/team/agent", given) == {
        "username": "me",
        "password": "token",
        "serveraddress": "ghcr.io",
    }


def _shown(
    reference: str, given: Mapping[str, tuple[str, str]] = MappingProxyType({})
) -> dict[str, str]:
    header = asyncio.run(registry_header(reference, given))["X-Registry-Auth"]
    found: dict[str, str] = json.loads(base64.urlsafe_b64decode(header))
    return found
