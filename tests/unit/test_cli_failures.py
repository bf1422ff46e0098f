"""What the command line advises after a failure."""

from __future__ import annotations

import pytest

from molecule_grpc.cli.failures import UNAVAILABLE, report
from molecule_grpc.cli.output import Output
from molecule_grpc.client import errors


def advice(error: errors.CallError, capsys: pytest.CaptureFixture[str]) -> str:
    report(error, Output(as_json=False), "http://127.0.0.1:8080")
    return capsys.readouterr().err


def test_a_full_disk_is_not_a_platform_that_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.Unavailable("the platform's disk is nearly full", reason="DISK_LOW")
    text = advice(error, capsys)
    assert "free space" in text
    assert "is the platform running" not in text
    assert report(error, Output(as_json=True), "") == UNAVAILABLE


@pytest.mark.parametrize("reason", ["NO_BACKEND", "IMAGE_UNAVAILABLE"])
def test_a_backend_that_is_away_is_not_a_platform_that_is_down(
    reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = advice(errors.Unavailable("not available", reason=reason), capsys)
    assert "the platform runs" in text
    assert "is the platform running" not in text


@pytest.mark.parametrize("kind", [errors.NotFound, errors.Unimplemented])
def test_a_path_that_the_port_lacks_names_the_operator_s_port(
    kind: type[errors.CallError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "MOLECULE_OPERATOR_PORT" in advice(kind("not found"), capsys)
    known = kind("no such workspace", reason="WORKSPACE_NOT_FOUND")
    assert "MOLECULE_OPERATOR_PORT" not in advice(known, capsys)
