"""Templates become organisations, by every way in; and once, however often they are imported."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import execute, with_database
from tests.e2e.command_line import CommandLine, command_line
from tests.e2e.managed import ManagedWorkspace, Platform, platform_of
from tests.e2e.parties import Organization, found
from tests.e2e.test_docs import shell_blocks
from tests.org_templates import real_template, tar_of, zip_of

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "org_templates" / "software_house"
NEEDED = ("GITHUB_TOKEN", "ANTHROPIC_API_KEY")
WORKSPACES = 25


@pytest.fixture(scope="module")
def database(postgres: str, template: str) -> Iterator[str]:
    """A database for the server of this module."""
    name = f"imports_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def platform(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Platform]:
    data = tmp_path_factory.mktemp("imports")
    shutil.copytree(EXAMPLE, data / "org-templates" / "software_house")
    # A control plane holds nobody to a list of hosts: such a start would fail.
    for file in (data / "org-templates").rglob("*.yaml"):
        file.write_text(re.sub("(?m)^ *egress: .*$", "", file.read_text()))
    (data / "org-templates" / "broken").mkdir()
    (data / "org-templates" / "broken" / "org.yaml").write_text("workspaces: [")
    (data / "templates" / "coder").mkdir(parents=True)
    (data / "templates" / "coder" / "config.yaml").write_text(
        "name: Coder\ndescription: Writes code\nruntime: claude-code\ntier: 2\n"
        "runtime_config: {model: opus, required_env: [KEY], models: [{id: opus}]}\n"
        "skills: [git, review]\n"
    )
    async with platform_of(database, data) as opened:
        yield opened


@pytest.fixture
async def org(platform: Platform) -> Organization:
    """An organisation with the secrets that the templates require."""
    fresh = await found(platform.wire, platform.operator)
    for key in NEEDED:
        answer = await fresh.rest("PUT", "/settings/secrets", {"key": key, "value": "v"})
        assert answer.status_code == 200
    return fresh


@pytest.fixture
async def poor_org(platform: Platform) -> Organization:
    """An organisation without secrets."""
    return await found(platform.wire, platform.operator)


async def import_org(org: Organization, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = await org.rest("POST", "/org/import", body)
    assert answer.status_code == status, answer.text
    result: dict[str, Any] = answer.json()
    return result


def actions(result: dict[str, Any]) -> Counter[str]:
    return Counter(each["action"] for each in result["workspaces"])


def encoded(archive: bytes) -> str:
    return base64.b64encode(archive).decode()


async def live(org: Organization) -> dict[str, dict[str, Any]]:
    """The organisation's workspaces by name."""
    answer = await org.rest("GET", "/workspaces")
    return {each["name"]: each for each in answer.json()}


async def files_of(platform: Platform, workspace_id: str) -> dict[str, str]:
    """What the agent of a workspace finds below /configs."""
    rows = await platform.database.fetch(
        "SELECT path, content FROM start_files WHERE workspace_id = $1", uuid.UUID(workspace_id)
    )
    return {row["path"]: row["content"].decode() for row in rows}


async def test_the_example_is_listed_imported_and_then_found(
    platform: Platform, org: Organization
) -> None:
    """W19, W23: every node reaches the backend once; a second import creates nothing."""
    listed = (await org.rest("GET", "/org/templates")).json()
    assert [(each["dir"], each["workspaces"]) for each in listed] == [
        ("software_house", WORKSPACES)
    ]
    assert listed[0]["required_env"] == [{"any_of": ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]}]
    planned = await import_org(org, 200, dir="software_house", dry_run=True)
    assert (planned["created"], await live(org)) == (WORKSPACES, {})
    first = await import_org(org, dir="software_house")
    assert (first["created"], first["skipped"], first["failed"]) == (WORKSPACES, 0, 0)
    assert max(len(each["path"]) for each in first["workspaces"]) == 4
    ids = [each["id"] for each in first["workspaces"]]
    before = await live(org)
    again = await import_org(org, dir="software_house")
    assert actions(again) == {"skip": WORKSPACES}
    assert all(each["skipped"] for each in again["workspaces"])
    assert [each["id"] for each in again["workspaces"]] == ids
    assert len(await live(org)) == len(before) == WORKSPACES
    await platform.plane.wait(
        lambda: {each.workspace_id for each in platform.plane.machines.values()} >= set(ids)
    )
    machines = [each for each in platform.plane.machines.values() if each.workspace_id in ids]
    assert len(machines) == WORKSPACES
    # The setting's default: three starts at once, each held until its start has ended.
    assert platform.plane.most_starts <= 3


async def test_two_imports_at_once_create_each_workspace_once(org: Organization) -> None:
    """R-10.7: whoever comes second finds the row of the first."""
    both = await asyncio.gather(*(import_org(org, dir="software_house") for _ in range(2)))
    assert sum(each["created"] for each in both) == WORKSPACES
    assert sum(each["skipped"] for each in both) == WORKSPACES
    one, other = ([each["id"] for each in result["workspaces"]] for result in both)
    assert one == other
    assert len(await live(org)) == WORKSPACES


async def test_what_is_missing_is_completed_below_what_is_there(org: Organization) -> None:
    """W20, W21: also after an import was interrupted; a removed workspace is made anew."""
    template = {"name": "t", "workspaces": [{"name": "a", "children": [{"name": "b"}]}]}
    first = await import_org(org, template=template)
    root, child = first["workspaces"]
    gone = await org.rest("DELETE", f"/workspaces/{child['id']}")
    assert gone.status_code == 200
    template["workspaces"][0]["children"].append({"name": "c"})  # type: ignore[index]
    second = await import_org(org, template=template)
    assert [(each["name"], each["action"]) for each in second["workspaces"]] == [
        ("a", "skip"), ("b", "create"), ("c", "create"),
    ]  # fmt: skip
    assert {each["parent_id"] for each in second["workspaces"][1:]} == {root["id"]}
    assert second["workspaces"][1]["id"] != child["id"]


async def test_what_the_template_says_differently_is_told(org: Organization) -> None:
    files = {
        "org.yaml": b"name: t\nworkspaces: [{name: a, role: one, files_dir: a}]\n",
        "a/system-prompt.md": b"first",
    }
    await import_org(org, archive=encoded(tar_of(files)))
    files["org.yaml"] = files["org.yaml"].replace(b"role: one", b"role: two")
    files["a/system-prompt.md"] = b"second"
    planned = await import_org(org, 200, archive=encoded(zip_of(files, "top/")), dry_run=True)
    [told] = planned["workspaces"]
    assert told["action"] == "differ"
    assert told["changed"] == ["files/config.yaml", "files/system-prompt.md", "role"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
async def test_a_template_as_its_authors_write_it_needs_no_hand(
    platform: Platform, org: Organization, pack: Any
) -> None:
    """42 workspaces on four levels, and all that real templates contain."""
    result = await import_org(org, archive=encoded(pack(real_template())))
    assert (result["created"], result["failed"], result["org"]) == (42, 0, "Molecule & Friends")
    rows = await live(org)
    lead = rows["Dev Lead"]
    assert "\n" not in lead["role"]
    assert len(lead["role"]) == 2145
    assert "Team 0 & Co" in rows
    by_name = {each["name"]: each for each in result["workspaces"]}
    notes = by_name["Dev Lead"]["notes"]
    assert any("Nobody In Particular is ignored" in note for note in notes)
    assert any("no plugin 'not-there'" in note for note in notes)
    assert {each["type"] for each in by_name["Dev Lead"]["channels_skipped"]} == {
        "telegram", "slack",
    }  # fmt: skip
    files = await files_of(platform, lead["id"])
    assert files["config.yaml"].count("\nname:") + files["config.yaml"].startswith("name:") == 1
    assert ".env" not in files
    values = await org.rest("GET", f"/workspaces/{lead['id']}/secrets/values")
    assert values.json()["TELEGRAM_BOT_TOKEN"] == "12:ab"


async def test_required_variables_must_have_a_value(poor_org: Organization) -> None:
    """412 names what is missing, and nothing is created; `force` imports all the same."""
    refused = await import_org(poor_org, 412, dir="software_house")
    assert refused["missing_env"] == [{"any_of": ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"]}]
    assert refused["template"] == "Software House"
    assert await live(poor_org) == {}
    forced = await import_org(poor_org, dir="software_house", force=True)
    assert (forced["created"], len(forced["missing_env"])) == (WORKSPACES, 1)


async def test_a_workspace_that_cannot_be_created_takes_only_its_own_along(
    org: Organization,
) -> None:
    """207: failed workspaces have reasons, and all other workspaces exist."""
    template = {
        "name": "t",
        "workspaces": [
            {"name": "a", "workspace_access": "read_only", "children": [{"name": "b"}]},
            {"name": "c", "workspace_access": "read_write", "workspace_dir": "/srv/code"},
            {"name": "d", "workspace_dir": "${WORKSPACE_DIR}"},
        ],
    }
    result = await import_org(org, 207, template=template)
    told = {each["name"]: (each["action"], each["error"]) for each in result["workspaces"]}
    assert told["a"] == ("fail", "workspace_access read_only needs workspace_dir")
    assert told["b"] == ("fail", "the workspace above was not created")
    assert told["c"][0] == "fail"
    assert "operator" in told["c"][1]
    assert told["d"] == ("create", "")
    assert result["error"].startswith("a: ")
    assert list(await live(org)) == ["d"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"dir": "a", "template": {"name": "b"}}, 400),
        ({"dir": "../outside"}, 400),
        ({"dir": "unknown"}, 404),
        ({"dir": "broken"}, 400),
        ({"template": {"name": "t"}}, 400),
        ({"archive": encoded(b"no archive")}, 400),
        # No gzip: its time of making would give the test another name in each process.
        ({"archive": encoded(tar_of({"readme": b""}, "w"))}, 404),
    ],
    ids=lambda given: str(given)[:30],
)
async def test_what_is_no_template_is_refused(
    org: Organization, body: dict[str, Any], status: int
) -> None:
    await import_org(org, status, **body)
    assert await live(org) == {}


async def test_templates_of_workspaces_are_listed(org: Organization) -> None:
    listed = (await org.rest("GET", "/templates")).json()
    assert listed == [
        {
            "id": "coder", "name": "Coder", "description": "Writes code", "tier": 2,
            "runtime": "claude-code", "model": "opus", "models": [{"id": "opus"}],
            "required_env": ["KEY"], "skills": ["git", "review"], "skill_count": 2,
            "provision_timeout_seconds": 0,
        }
    ]  # fmt: skip


@pytest.fixture
def commands(platform: Platform, org: Organization) -> Iterator[CommandLine]:
    token = org.headers["authorization"].removeprefix("Bearer ")
    with command_line(platform.server.url, token) as opened:
        yield opened


async def test_the_command_line_imports_what_lies_here_and_there(
    platform: Platform, org: Organization, commands: CommandLine
) -> None:
    """A directory is sent; a name is one of the server's; --watch ends when all are up."""

    def run(*words: str) -> tuple[int, str, str]:
        return commands.run("org", *words)

    listed = await asyncio.to_thread(commands.json, "org", "templates")
    assert [each["dir"] for each in listed] == ["software_house"]
    code, out, error = await asyncio.to_thread(run, "import", str(EXAMPLE), "--dry-run")
    assert (code, len(out.splitlines())) == (0, WORKSPACES), error
    assert "25 would be created" in error
    assert await live(org) == {}
    done = await asyncio.to_thread(commands.json, "org", "import", "software_house")
    assert done["created"] == WORKSPACES
    watching = asyncio.create_task(asyncio.to_thread(run, "import", "software_house", "--watch"))
    for each in done["workspaces"]:
        workspace = ManagedWorkspace(platform, each["id"])
        await workspace.register()
    code, out, error = await watching
    assert code == 0, error
    assert "0 created, 25 there already" in error
    code, _, error = await asyncio.to_thread(run, "import", "no-such-template")
    assert (code, "no template" in error) == (3, True)


async def test_the_commands_of_the_page_work(platform: Platform, poor_org: Organization) -> None:
    """docs/org-templates.md, as it stands."""
    script = "set -e\n" + "\n".join(shell_blocks("docs/org-templates.md", "Importing"))
    token = poor_org.headers["authorization"].removeprefix("Bearer ")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MOLECULE_URL": platform.server.url,
        "MOLECULE_TOKEN": token,
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=ROOT, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await process.communicate()
    assert process.returncode == 0, error
    assert b"25 created, 0 there already" in error
    assert b"0 created, 25 there already" in error
    assert b'"created":2' in out


async def test_a_template_s_schedules_are_kept_and_refreshed(org: Organization) -> None:
    """What is no schedule says why; a second import has each once, as the template says it now."""
    schedules = [
        {"name": "daily", "cron_expr": "0 9 * * *", "prompt": "one"},
        {"name": "bad", "cron_expr": "often", "prompt": "x"},
        {"name": "mute", "cron_expr": "* * * * *"},
    ]
    template = {"name": "t", "workspaces": [{"name": "a", "schedules": schedules}]}
    [made] = (await import_org(org, template=template))["workspaces"]
    assert made["schedules"] == 1
    assert {each["name"] for each in made["schedules_skipped"]} == {"bad", "mute"}
    schedules[0]["prompt"] = "two"
    [again] = (await import_org(org, template=template))["workspaces"]
    assert again["skipped"]
    [kept] = (await org.rest("GET", f"/workspaces/{made['id']}/schedules")).json()
    assert (kept["name"], kept["prompt"], kept["source"]) == ("daily", "two", "template")


async def test_a_workspace_is_configured_by_its_template(
    platform: Platform, org: Organization
) -> None:
    """Runtime and model where the call names none; without a template a minimal configuration."""
    made = {}
    for name, fields in {"a": {"template": "coder"}, "b": {"model": "mine"}}.items():
        answer = await org.rest("POST", "/workspaces", {"name": name, "role": "r", **fields})
        assert answer.status_code == 201, answer.text
        made[name] = answer.json()["id"]
    a = (await files_of(platform, made["a"]))["config.yaml"]
    assert "runtime: claude-code\nmodel: opus\n" in a
    assert "name: a\ndescription: r\n" in a
    b = (await files_of(platform, made["b"]))["config.yaml"]
    assert "runtime: langgraph\nmodel: mine\n" in b
    bad = await org.rest("POST", "/workspaces", {"name": "c", "template": "../up"})
    assert bad.status_code == 400
    mounted = {"name": "d", "workspace_dir": "/srv", "workspace_access": "read_only"}
    assert (await org.rest("POST", "/workspaces", mounted)).status_code == 403


async def test_hosts_are_inherited_from_the_defaults(org: Organization) -> None:
    """What the example says of egress stands in the workspaces' rows."""
    files = {
        path.relative_to(EXAMPLE).as_posix(): path.read_bytes()
        for path in EXAMPLE.rglob("*")
        if path.is_file()
    }
    await import_org(org, archive=encoded(tar_of(files)))
    rows = await live(org)
    for name, hosts in (("Critic", "none"), ("Scout", ["api.anthropic.com", "api.openai.com"])):
        told = (await org.rest("GET", f"/workspaces/{rows[name]['id']}/egress")).json()["egress"]
        assert (told if isinstance(told, str) else told[:2]) == hosts
