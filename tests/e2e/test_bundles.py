"""Bundles: exported, imported, and exported again, over REST and gRPC."""

from __future__ import annotations

import json
import uuid
from typing import Any

import asyncpg
import pytest
from moleculeai.workspace.v1 import bundle_pb2 as pb

from tests.e2e.parties import Organization, Party
from tests.running import RunningServer

CONFIG = "name: x\nruntime: external\n"


def bundle(name: str, *below: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "name": name, "prompts": {"config.yaml": CONFIG}, "sub_workspaces": list(below), **parts,
    }  # fmt: skip


def full(name: str) -> dict[str, Any]:
    """With every part that there is."""
    leaf = bundle("leaf & co", description="reads > writes", tier=2)
    other = bundle("second", bundle("deep"), agent_card={"name": "x", "n": 1.5})
    return bundle(
        name,
        leaf,
        other,
        description="leads",
        tier=3,
        model="opus",
        system_prompt="You lead.\n",
        skills=[
            {"id": "z", "name": "Z", "description": "last\nfirst", "files": {"SKILL.md": "# Z"}},
            {"id": "a", "name": "", "description": "", "files": {}},
        ],
        tools=[{"id": "t", "config": {"deep": [1, None, {"x": "y"}]}}],
        prompts={"config.yaml": CONFIG, "prompts/first.md": "Begin.", "empty.md": ""},
        agent_card={"name": "lead", "long": 2**60},
        author="somebody",
        version="2.1",
    )


async def imported(party: Party, document: Any, **params: str) -> dict[str, Any]:
    answer = await party.rest("POST", "/bundles/import", document, **params)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def exported(party: Party, workspace_id: str) -> dict[str, Any]:
    answer = await party.rest("GET", f"/bundles/export/{workspace_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def without_ids(document: dict[str, Any]) -> dict[str, Any]:
    below = [without_ids(each) for each in document["sub_workspaces"]]
    return {key: value for key, value in document.items() if key != "id"} | {
        "sub_workspaces": below
    }


async def test_a_round_trip_loses_nothing(
    server: RunningServer, org: Organization, other_org: Organization
) -> None:
    """Exported, imported into another organisation, and exported again: equal but for the ids."""
    name = f"team {uuid.uuid4().hex[:8]}"
    made = await imported(org, full(name))
    first = await exported(org, made["workspace_id"])
    given = full(name)
    for key in ("name", "description", "tier", "model", "system_prompt", "skills", "tools",
                "prompts", "agent_card", "author", "version"):  # fmt: skip
        assert first[key] == given[key], key
    assert (first["schema"], first["omitted"]) == ("1.0", [])
    assert [each["name"] for each in first["sub_workspaces"]] == ["leaf & co", "second"]
    again = await imported(other_org, first)
    second = await exported(other_org, again["workspace_id"])
    assert without_ids(second) == without_ids(first)
    assert {again["workspace_id"]}.isdisjoint({made["workspace_id"]})
    connection = await asyncpg.connect(server.database_url)
    try:
        origin = await connection.fetchval(
            "SELECT source_bundle_id FROM workspaces WHERE id = $1",
            uuid.UUID(again["workspace_id"]),
        )
    finally:
        await connection.close()
    assert origin == made["workspace_id"]


async def test_an_import_says_what_became_of_each(org: Organization) -> None:
    """R-11.5: a child whose name is taken fails with those below it; the others go on."""
    root = f"root {uuid.uuid4().hex[:8]}"
    twin = bundle("twin", bundle("orphan"))
    made = await imported(org, bundle(root, bundle("twin"), twin, bundle("last")))
    assert (made["name"], made["status"]) == (root, "awaiting_agent")
    assert "error" not in made
    states = [(each["name"], each["status"]) for each in made["children"]]
    assert states == [
        ("twin", "awaiting_agent"), ("twin", "failed"), ("last", "awaiting_agent"),
    ]  # fmt: skip
    lost = made["children"][1]
    assert (lost["workspace_id"], bool(lost["error"])) == ("", True)
    assert lost["children"][0]["error"] == "the workspace above was not created"
    rows = (await org.rest("GET", "/workspaces")).json()
    assert sorted(row["name"] for row in rows) == sorted([root, "twin", "last"])


async def test_w27_without_a_backend_an_import_fails_with_its_reason(org: Organization) -> None:
    """R-11.1: 201 all the same; the reason is in the answer, in the row and in the event."""
    document = bundle("runs", prompts={"config.yaml": "runtime: claude-code"})
    made = await imported(org, document)
    assert (made["status"], bool(made["error"])) == ("failed", True)
    row = (await org.rest("GET", f"/workspaces/{made['workspace_id']}")).json()
    assert (row["runtime"], row["last_sample_error"]) == ("claude-code", made["error"])
    [event] = (await org.rest("GET", f"/events/{made['workspace_id']}")).json()
    assert event["event_type"] == "WORKSPACE_PROVISION_FAILED"
    assert event["payload"]["error"] == made["error"]
    assert (await exported(org, made["workspace_id"]))["prompts"] == document["prompts"]


async def test_a_repeat_adds_nothing(org: Organization) -> None:
    document = full("only once")
    await imported(org, document)
    before = (await org.rest("GET", "/workspaces")).json()
    answer = await org.rest("POST", "/bundles/import", document)
    assert (answer.status_code, "name" in answer.json()["error"]) == (409, True)
    assert (await org.rest("GET", "/workspaces")).json() == before


async def test_a_secret_leaves_in_no_bundle(org: Organization) -> None:
    """Neither as a secret nor within a text; what was left out is named."""
    prompts = {"config.yaml": CONFIG, "notes.md": "the key is very-secret-value", "ok.md": "fine"}
    made = await imported(org, bundle("secretive", prompts=prompts))
    secret = {"key": "API_KEY", "value": "very-secret-value"}
    path = f"/workspaces/{made['workspace_id']}/secrets"
    assert (await org.rest("PUT", path, secret)).status_code == 200
    found = await exported(org, made["workspace_id"])
    assert "very-secret-value" not in json.dumps(found)
    assert found["omitted"] == [{"path": "notes.md", "reason": "secret"}]
    assert sorted(found["prompts"]) == ["config.yaml", "ok.md"]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"name": ""}, "bundle.name"),
        ({"schema": "2.0"}, "schema"),
        ({"prompts": {"../x": "y"}}, "bundle.prompts"),
        ({"sub_workspaces": [{"name": "a", "tier": -1}]}, "bundle.sub_workspaces[0].tier"),
        ({"tools": [{"id": "a/b"}]}, "bundle.tools[0].id"),
    ],
)
async def test_a_wrong_bundle_is_refused_as_a_whole(
    org: Organization, wrong: dict[str, Any], named: str
) -> None:
    before = (await org.rest("GET", "/workspaces")).json()
    answer = await org.rest("POST", "/bundles/import", bundle("wrong", bundle("child")) | wrong)
    assert (answer.status_code, named in answer.text) == (400, True), answer.text
    assert (await org.rest("GET", "/workspaces")).json() == before


async def test_a_bundle_of_a_thousand_levels_is_refused(org: Organization) -> None:
    levels = 1000
    text = '{"name": "n", "sub_workspaces": [' * levels + "]}" * levels
    headers = {**org.headers, "content-type": "application/json"}
    answer = await org.wire.http.post("/bundles/import", content=text, headers=headers)
    assert answer.status_code == 400, answer.text


async def test_a_bundle_that_no_client_could_read_is_refused(org: Organization) -> None:
    """413 beyond 3 MiB of texts; what is below can be exported alone."""
    text = {"prompts": {"config.yaml": CONFIG, "big.md": "x" * 1_600_000}}
    made = await imported(org, bundle("big", bundle("big too", **text), **text))
    answer = await org.rest("GET", f"/bundles/export/{made['workspace_id']}")
    assert answer.status_code == 413, answer.text[:200]
    child = made["children"][0]["workspace_id"]
    assert len((await exported(org, child))["prompts"]["big.md"]) == 1_600_000


async def test_an_export_is_for_owners(
    operator: Party, org: Organization, other_org: Organization
) -> None:
    """404 for others and for what there is not; a removed child is no part of a bundle."""
    made = await imported(org, bundle("mine", bundle("kept"), bundle("removed")))
    root, removed = made["workspace_id"], made["children"][1]["workspace_id"]
    assert (await org.rest("DELETE", f"/workspaces/{removed}")).status_code == 200
    assert (await other_org.rest("GET", f"/bundles/export/{root}")).status_code == 404
    gone = await operator.rest("GET", f"/bundles/export/{removed}")
    assert (gone.status_code, gone.json()["error"]) == (404, "bundle not found")
    found = await operator.rpc(pb.ExportBundleRequest(workspace_id=root))
    assert [each.name for each in found.sub_workspaces] == ["kept"]
