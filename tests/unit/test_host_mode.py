"""Which host is chosen, and what is said of it."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable

import pytest

from molecule_grpc.server.process import host_mode as module
from molecule_grpc.server.process.host_mode import AUTO, ENVOY, GRPC, host_mode
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

Patch = pytest.MonkeyPatch


def no_libpython(patch: Patch) -> str:
    patch.setattr(module, "candidate_paths", lambda: iter(()))
    return "this Python has no shared library (libpython)"


def other_envoy(patch: Patch) -> str:
    patch.setattr(importlib.metadata, "version", lambda _: "1.0.0")
    return "pyvoy is made for Envoy 1.39.3, installed is 1.0.0"


def other_system(patch: Patch) -> str:
    patch.setattr(sys, "platform", "darwin")
    return "no module of Envoy is tested on darwin"


def test_without_a_word_the_machine_decides() -> None:
    assert Settings.from_env({}).process.host_mode == AUTO


def test_where_envoy_can_load_a_worker_it_does() -> None:
    found = host_mode(AUTO)
    assert (found.name, found.because) == (ENVOY, "module, Envoy and Python fit")
    assert found.module is not None
    assert found.module.exists()


@pytest.mark.parametrize("hinder", [no_libpython, other_envoy, other_system])
def test_where_it_cannot_workers_run_behind_it_and_the_reason_is_said(
    hinder: Callable[[Patch], str], monkeypatch: Patch
) -> None:
    because = hinder(monkeypatch)
    found = host_mode(AUTO)
    assert (found.name, found.module, found.because) == (GRPC, None, because)
    with pytest.raises(SettingsError) as refused:
        host_mode(ENVOY)
    assert str(refused.value) == f"MOLECULE_HOST_MODE=envoy cannot be used: {because}"


def test_who_asks_for_a_host_gets_it() -> None:
    assert host_mode(GRPC).name == GRPC
    assert host_mode(ENVOY).name == ENVOY
