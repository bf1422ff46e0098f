"""Workspaces in pods, through the real server and a real cluster in one network namespace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.e2e.parties import Organization, found, wire_to
from tests.kubernetes.cluster import NAMESPACE, KubernetesCluster
from tests.kubernetes.fixtures import variables_for
from tests.running import RunningServer
from tests.waiting import until


@pytest.fixture
def platform(
    own_server: Callable[..., RunningServer], kubernetes: KubernetesCluster
) -> RunningServer:
    """A server beside the cluster. The test reaches it through the namespace's interface."""
    return own_server(
        entry=kubernetes.namespace.entry,
        MOLECULE_HOST=kubernetes.namespace.inside,
        MOLECULE_BACKEND="kubernetes",
        MOLECULE_RECONCILE_SECONDS="1",
        **variables_for(kubernetes),
    )


@pytest.fixture
async def org(platform: RunningServer) -> AsyncIterator[Organization]:
    """An organisation on it."""
    async with wire_to(platform) as wire:
        yield await found(wire, wire.party(platform.admin_token))


async def test_a_pod_comes_online_rests_wakes_and_leaves_nothing(
    org: Organization, kubernetes: KubernetesCluster
) -> None:
    """A life: created, called, paused, resumed, lost, healed, removed."""
    answer = await org.rest("POST", "/workspaces", {"name": "runner", "runtime": "langgraph"})
    assert (answer.status_code, answer.json()["status"]) == (201, "provisioning"), answer.text
    workspace = answer.json()["id"]

    async def look() -> dict[str, Any]:
        row: dict[str, Any] = (await org.rest("GET", f"/workspaces/{workspace}")).json()
        return row

    async def mine() -> list[dict[str, Any]]:
        return [each for each in kubernetes.pods() if workspace in each["metadata"]["name"]]

    await until(look, lambda row: row.get("status") == "online")
    address = (await mine())[0]["status"]["podIP"]
    await until(look, lambda row: row.get("url") == f"http://{address}:8000")
    await answers(org, workspace)

    assert (await org.rest("POST", f"/workspaces/{workspace}/pause")).status_code == 200
    await until(mine, lambda pods: not pods)
    assert (await org.rest("POST", f"/workspaces/{workspace}/resume")).status_code == 200
    await until(look, lambda row: row.get("status") == "online" and bool(row.get("url")))
    await answers(org, workspace)

    # A pod that is deleted is made again by the cluster, and called at its new address.
    before = (await mine())[0]["metadata"]["uid"]
    kubernetes.ask("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/ws-{workspace}-0")

    def another(pods: list[dict[str, Any]]) -> bool:
        return any(p["metadata"]["uid"] != before and "podIP" in p["status"] for p in pods)

    pods = await until(mine, another)
    address = pods[0]["status"]["podIP"]
    await until(look, lambda row: row.get("url") == f"http://{address}:8000")

    removed = await org.rest("DELETE", f"/workspaces/{workspace}", purge="true")
    assert removed.status_code == 200, removed.text

    async def left() -> str:
        paths = ("/api/v1/namespaces/{}/persistentvolumeclaims", "/api/v1/namespaces/{}/secrets")
        core = [kubernetes.ask("GET", path.format(NAMESPACE)) for path in paths]
        sets = kubernetes.ask("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")
        return json.dumps([*core, sets, await mine()])

    await until(left, lambda text: workspace not in text)


async def answers(org: Organization, workspace: str) -> None:
    """The agent in the pod answers a message."""
    message = {"messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
    answer = await org.rest("POST", f"/workspaces/{workspace}/a2a", body)
    assert answer.status_code == 200, answer.text
    assert "echo: hi" in answer.text


async def test_doctor_says_which_right_the_account_lacks(kubernetes: KubernetesCluster) -> None:
    for token, well in ((kubernetes.platform_token(), True), (kubernetes.poor_token(), False)):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "molecule_grpc.cli.main", "--json", "doctor", "backend"),
            env={
                **os.environ,
                **variables_for(kubernetes, token),
                "MOLECULE_BACKEND": "kubernetes",
                "EXTERNAL_PLATFORM_URL": "http://molecule.example",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        shown, _ = await process.communicate()
        findings = {each["name"]: each for each in json.loads(shown)["findings"]}
        assert process.returncode == (0 if well else 1), findings
        assert findings["cluster"]["detail"].startswith("v1.")
        assert ("create statefulsets" in findings["rights"]["detail"]) is not well
