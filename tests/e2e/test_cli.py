"""What `molecule-grpc` promises to people, pipes and programs, against the real server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import as_server, with_database
from tests.forked import run_command
from tests.ports import free_port
from tests.running import RunningServer
from tests.settings import all_variables
from tests.waiting import PATIENCE

pytestmark = pytest.mark.e2e

_PROGRAM = [sys.executable, "-m", "molecule_grpc.cli.main"]
_OURS = ("MOLECULE_URL", "MOLECULE_TOKEN", "ADMIN_TOKEN", "MOLECULE_DATA_DIR", "PORT", "NO_COLOR")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs the command line as a user of this server would."""

    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        return run_command(words, self.environment | changes, PATIENCE, stdin)

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def following(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*_PROGRAM, *words], env=self.environment, stdout=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def workspace(self) -> tuple[str, str]:
        """Id and name of a new one, made over REST: a command costs a second of CPU."""
        name = f"cli-{uuid.uuid4().hex[:8]}"
        made = httpx.post(
            f"{self.environment['MOLECULE_URL']}/workspaces",
            headers={"Authorization": f"Bearer {self.environment['MOLECULE_TOKEN']}"},
            json={"name": name, "runtime": "external"},
            timeout=PATIENCE,
        )
        return made.raise_for_status().json()["id"], name


@pytest.fixture
def shell(server: RunningServer, tmp_path: Path) -> Shell:
    clean = {name: value for name, value in os.environ.items() if name not in _OURS}
    return Shell(
        clean
        | {
            "MOLECULE_URL": server.url,
            "MOLECULE_TOKEN": server.admin_token,
            "MOLECULE_DATA_DIR": str(tmp_path),
        }
    )


# Work through the command line.


def test_a_delegation_goes_all_the_way(shell: Shell) -> None:
    (lead, lead_name), (worker, worker_name) = shell.workspace(), shell.workspace()
    made = shell.json("delegate", lead_name, worker_name, "say hello", "--key", "one")
    again = shell.json("delegate", lead, worker, "say hello", "--key", "one")
    assert (again["delegation_id"], again["known"]) == (made["delegation_id"], True)
    pulled = shell.json("inbox", "pull", worker_name)
    assert [item["text"] for item in pulled] == ["say hello"]
    (row,) = shell.json("delegation", "ls", lead)
    assert (row["delegation_id"], row["direction"]) == (made["delegation_id"], "sent")
    shown = shell.json("delegation", "show", worker, made["delegation_id"])
    assert (shown["source_id"], shown["target_id"]) == (lead, worker)
    ledger = shell.json("delegation", "ls")
    assert made["delegation_id"] in [each["delegation_id"] for each in ledger]


def test_a_task_can_come_from_stdin(shell: Shell) -> None:
    (lead, _), (worker, _) = shell.workspace(), shell.workspace()
    assert shell.run("delegate", lead, worker, "-", stdin="from a pipe").returncode == 0
    assert [item["text"] for item in shell.json("inbox", "pull", worker)] == ["from a pipe"]


def test_a_message_has_a_sender_or_is_the_humans(shell: Shell) -> None:
    (one, _), (two, _) = shell.workspace(), shell.workspace()
    shell.json("send", two, "from the human")
    shell.json("send", two, "from a peer", "--from", one)
    items = shell.json("inbox", "pull", two)
    assert [(item["text"], item["source_id"]) for item in items] == [
        ("from the human", ""),
        ("from a peer", one),
    ]


def test_a_pull_can_ack(shell: Shell) -> None:
    workspace, _ = shell.workspace()
    shell.json("send", workspace, "read me")
    assert len(shell.json("inbox", "pull", workspace, "--ack")) == 1
    assert shell.json("inbox", "pull", workspace) == []


@pytest.mark.parametrize(("options", "left"), [((), ["first", "second"]), (("--ack",), [])])
def test_a_tail_shows_items_at_once_and_acks_only_when_asked(
    shell: Shell, options: tuple[str, ...], left: list[str]
) -> None:
    workspace, _ = shell.workspace()
    shell.json("send", workspace, "first")
    with shell.following("inbox", "tail", workspace, "--json", *options) as tail:
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["text"] == "first"
        shell.json("send", workspace, "second")
        assert json.loads(tail.stdout.readline())["text"] == "second"
    assert [item["text"] for item in shell.json("inbox", "pull", workspace)] == left


# Operating.


def test_a_workspace_is_made_changed_and_removed(shell: Shell) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    workspace = shell.json("workspace", "create", name)["id"]
    shell.json("workspace", "update", name, "--role", "critic")
    assert shell.json("workspace", "show", name)["role"] == "critic"
    assert workspace in [each["id"] for each in shell.json("workspace", "ls")]
    assert shell.json("workspace", "rm", name)["status"] == "removed"
    assert workspace not in [each["id"] for each in shell.json("workspace", "ls")]


def test_a_tree_is_drawn_and_removed_only_when_asked(shell: Shell) -> None:
    _, parent = shell.workspace()
    child = f"child-{uuid.uuid4().hex[:8]}"
    shell.json("workspace", "create", child, "--parent", parent)
    lines = shell.run("workspace", "tree").stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(parent))
    assert lines[at + 1].startswith(f"└── {child}")
    assert [each["name"] for each in shell.json("workspace", "peers", parent)].count(child) == 1
    refused = shell.run("workspace", "rm", parent)
    assert (refused.returncode, child in refused.stderr) == (2, True)
    assert shell.json("workspace", "rm", parent, "--recursive")["cascade_deleted"] == 1


def test_a_token_works_until_it_is_revoked(shell: Shell) -> None:
    workspace, _ = shell.workspace()
    minted = shell.json("token", "create", workspace)
    own = ("inbox", "pull", workspace, "--token", minted["auth_token"])
    assert shell.run(*own).returncode == 0
    assert minted["id"] in [each["id"] for each in shell.json("token", "ls", workspace)]
    shell.json("token", "revoke", workspace, minted["id"])
    assert shell.run(*own).returncode == 4


def test_a_secret_is_set_from_stdin_and_never_shown(shell: Shell) -> None:
    name = f"secretive {uuid.uuid4().hex[:8]}"
    shell.json("workspace", "create", name)
    done = shell.run("secret", "set", "API_KEY", "--workspace", name, stdin="very hidden\n")
    assert (done.returncode, "very hidden" in done.stdout + done.stderr) == (0, False)
    listed = shell.run("secret", "ls", "--workspace", name, "--json")
    assert "API_KEY" in listed.stdout
    assert "very hidden" not in listed.stdout
    assert shell.run("secret", "rm", "API_KEY", "--workspace", name).returncode == 0
    assert shell.run("secret", "rm", "API_KEY", "--workspace", name).returncode != 0


def test_a_workspace_is_configured(shell: Shell) -> None:
    name = f"configured {uuid.uuid4().hex[:8]}"
    shell.json("workspace", "create", name)
    set_ = ("workspace", "config", name, 'theme={"dark": true}', "note=plain text")
    assert shell.json(*set_) == {"theme": {"dark": True}, "note": "plain text"}
    assert shell.json("workspace", "model", name, "opus") == {
        "model": "opus", "source": "workspace_secrets",
    }  # fmt: skip
    assert shell.json("workspace", "model", name, "--clear")["source"] == "default"
    assert shell.json("workspace", "budget", name, "--limit", "500")["budget_remaining"] == 500
    assert "budget_limit" not in shell.json("workspace", "budget", name, "--no-limit")
    assert shell.json("workspace", "usage", name)["total_calls"] == 0
    assert shell.run("workspace", "agent", name).returncode == 3
    assert shell.json("workspace", "agent", name, "--assign", "opus")["model"] == "opus"
    assert shell.json("workspace", "agent", name, "--remove")["status"] == "removed"


def test_a_bundle_is_exported_and_imported(shell: Shell, tmp_path: Path) -> None:
    """The second import exits with an error: its root is there already."""
    name = f"bundled {uuid.uuid4().hex[:8]}"
    shell.json("workspace", "create", name)
    file = tmp_path / "bundle.json"
    assert shell.run("bundle", "export", name, str(file)).returncode == 0
    file.write_text(file.read_text().replace(name, f"{name} again"))
    done = shell.json("bundle", "import", str(file))
    assert (done["name"], done["status"]) == (f"{name} again", "awaiting_agent")
    assert shell.run("bundle", "import", str(file)).returncode != 0


def test_an_agent_sees_how_much_of_its_quotas_is_used(shell: Shell) -> None:
    workspace, _ = shell.workspace()
    minted = shell.json("token", "create", workspace)
    rows = shell.json("quota", "--token", minted["auth_token"])
    (tokens,) = [
        each for each in rows if (each["name"], each["of"]) == ("live tokens", "workspace")
    ]
    assert (tokens["used"], tokens["limit"], tokens["at_once"]) == (2, 50, False)
    assert shell.json("quota", workspace) != shell.json("quota")


def test_an_organisations_token_sees_only_its_own(shell: Shell) -> None:
    slug = f"org-{uuid.uuid4().hex[:8]}"
    organisation = shell.json("org", "create", slug)
    assert slug in [each["slug"] for each in shell.json("org", "ls")]
    minted = shell.json("token", "org-create", "ci", "--org", organisation["id"])
    assert minted["id"] in [each["id"] for each in shell.json("token", "org-ls")]
    listing = ("workspace", "ls", "--json", "--token", minted["auth_token"])
    assert json.loads(shell.run(*listing).stdout) == []
    shell.json("token", "org-revoke", minted["id"])
    assert shell.run(*listing).returncode == 4


# How it speaks.


def test_global_options_may_stand_anywhere_before_the_dashes(shell: Shell) -> None:
    workspace, _ = shell.workspace()
    front = shell.run("--json", "workspace", "show", workspace)
    back = shell.run("workspace", "show", workspace, "--json")
    assert json.loads(front.stdout) == json.loads(back.stdout)
    assert shell.run("send", workspace, "--", "--json").returncode == 0
    assert [item["text"] for item in shell.json("inbox", "pull", workspace)] == ["--json"]


def test_a_pipe_gets_plain_columns(shell: Shell) -> None:
    workspace, name = shell.workspace()
    lines = shell.run("workspace", "ls", FORCE_COLOR="").stdout.splitlines()
    (line,) = [each for each in lines if each.startswith(workspace)]
    assert line.split("\t")[:3] == [workspace, name, "awaiting_agent"]


@pytest.mark.parametrize(
    ("words", "changes", "code", "says"),
    [
        (("workspace", "show", str(uuid.UUID(int=1))), {}, 3, "molecule-grpc workspace ls"),
        (("workspace", "ls"), {"MOLECULE_TOKEN": "wrong"}, 4, "--token"),
        (("workspace", "ls"), {"MOLECULE_URL": "http://127.0.0.1:1"}, 5, "molecule-grpc up"),
        (("workspace", "show", "nobody has this name"), {}, 2, "molecule-grpc workspace ls"),
        (("workspace", "nonsense"), {}, 2, "nonsense"),
        (("org", "create", "Not A Slug"), {}, 1, "slug"),
    ],
)
def test_a_failure_says_what_to_do_and_exits_by_its_kind(
    shell: Shell, words: tuple[str, ...], changes: dict[str, str], code: int, says: str
) -> None:
    failed = shell.run(*words, "--json", **changes)
    assert (failed.returncode, failed.stdout) == (code, "")
    assert says in failed.stderr


def test_a_delegation_that_fails_fails_the_command(shell: Shell, server: RunningServer) -> None:
    (lead, _), (worker, _) = shell.workspace(), shell.workspace()
    with shell.following("delegate", lead, worker, "try", "--wait", "20", "--json") as waiting:
        (item,) = shell.json("inbox", "pull", worker, "--wait", "10")
        httpx.post(
            f"{server.url}/workspaces/{worker}/delegations/{item['delegation_id']}/update",
            headers={"Authorization": f"Bearer {server.admin_token}"},
            json={"status": "failed", "error": "cannot"},
            timeout=PATIENCE,
        ).raise_for_status()
        told, _ = waiting.communicate(timeout=PATIENCE)
    assert (json.loads(told)["error"], waiting.returncode) == ("cannot", 1)


def test_the_token_of_the_data_directory_is_found(
    shell: Shell, server: RunningServer, tmp_path: Path
) -> None:
    assert shell.run("org", "ls", MOLECULE_TOKEN="").returncode == 4
    (tmp_path / "admin_token").write_text(server.admin_token + "\n")
    assert shell.run("org", "ls", MOLECULE_TOKEN="").returncode == 0


def test_the_port_of_the_environment_is_used(shell: Shell, server: RunningServer) -> None:
    done = shell.run("org", "ls", MOLECULE_URL="", PORT=str(server.port))
    assert done.returncode == 0, done.stderr


def test_nothing_is_coloured_where_colours_are_not_wanted(shell: Shell) -> None:
    assert "\x1b[" in shell.run("org", "nonsense", FORCE_COLOR="1").stderr
    refused = shell.run("workspace", "show", str(uuid.UUID(int=1)), FORCE_COLOR="1", NO_COLOR="1")
    assert "\x1b[3" not in refused.stderr


def test_it_tells_its_version_and_completes_in_the_shell(shell: Shell) -> None:
    assert shell.run("--version").stdout.strip() == metadata.version("molecule-grpc")
    completed = shell.run(
        _MOLECULE_GRPC_COMPLETE="complete_bash", COMP_WORDS="molecule-grpc work", COMP_CWORD="1"
    )
    assert "workspace" in completed.stdout


def test_serve_without_a_database_says_what_to_do(shell: Shell) -> None:
    failed = shell.run("serve", DATABASE_URL="")
    assert failed.returncode == 1
    assert "DATABASE_URL" in failed.stderr


@pytest.mark.parametrize(
    ("command", "variable", "text", "allowed"),
    [
        ("up", "PORT", "80000", "a whole number from 1 to 65535"),
        ("serve", "PORT", "eighty", "a whole number from 1 to 65535"),
        ("migrate", "MOLECULE_UPLOAD_STORE", "gcs", "postgres, s3 or off"),
        ("doctor", "MOLECULE_UPLOAD_STORE", "gcs", "postgres, s3 or off"),
    ],
)
def test_a_setting_that_cannot_be_understood_is_one_line(
    shell: Shell, command: str, variable: str, text: str, allowed: str
) -> None:
    """Nothing starts; the line names the variable, its text and what is allowed."""
    failed = shell.run(command, **{variable: text})
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"error: {variable}={text!r} cannot be used: must be {allowed}\n"


def test_a_worker_says_the_same_of_its_settings(shell: Shell, tmp_path: Path) -> None:
    address = f"--address=unix:{tmp_path / 'worker.sock'}"
    failed = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.server.process.worker", address],
        env=shell.environment | {"PORT": "80000"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "error: PORT='80000' cannot be used: must be a whole number from 1 to 65535\n"
    )


@pytest.mark.parametrize("command", ["up", "serve"])
def test_a_variable_that_nobody_reads_is_named_with_the_nearest_one(
    shell: Shell, server: RunningServer, command: str
) -> None:
    """It stops nothing: here a database that does not exist does."""
    nowhere = {"DATABASE_URL": with_database(server.database_url, "nowhere")}
    failed = shell.run(command, MOLECULE_UPLOAD_STOR="s3", **nowhere)
    warning, error = failed.stderr.splitlines()[:2]
    assert warning == (
        "warning: MOLECULE_UPLOAD_STOR is not a setting and has no effect; "
        "did you mean MOLECULE_UPLOAD_STORE?"
    )
    assert error.startswith("error: ")


def test_doctor_names_a_variable_that_nobody_reads_and_lists_all_that_are(
    shell: Shell, server: RunningServer
) -> None:
    there = {"DATABASE_URL": server.database_url}
    done = shell.run("doctor", "--json", MOLECULE_UPLOAD_STOR="s3", **there)
    told = json.loads(done.stdout)
    (finding,) = [each for each in told["findings"] if each["name"] == "setting"]
    assert not finding["well"]
    assert "did you mean MOLECULE_UPLOAD_STORE?" in finding["detail"]
    assert set(told["settings"]) == set(all_variables())
    lines = shell.run("doctor", **there).stdout.splitlines()
    assert {line.split("\t")[0] for line in lines} >= set(all_variables())


def test_a_port_that_is_none_makes_no_address(shell: Shell) -> None:
    failed = shell.run("workspace", "ls", MOLECULE_URL="", PORT="80000")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "not the address of a platform" in failed.stderr


def test_the_schema_is_up_to_date_and_doctor_finds_nothing_wrong(
    shell: Shell, server: RunningServer
) -> None:
    there = {"DATABASE_URL": server.database_url, "PORT": str(free_port())}
    assert json.loads(shell.run("migrate", "--json", **there).stdout) == {"migrated": []}
    findings = json.loads(shell.run("doctor", "--json", **there).stdout)["findings"]
    names = {each["name"] for each in findings if each["well"]}
    assert {"database", "schema", "data directory"} <= names


def test_doctor_says_what_keeps_the_audit_log(shell: Shell, server: RunningServer) -> None:
    """A grant, for a server's role; a trigger alone, for a role that could drop the trigger."""
    told = []
    for url in (server.database_url, as_server(server.database_url)):
        done = shell.run("doctor", "--json", DATABASE_URL=url, PORT=str(free_port()))
        findings = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
        told.append((findings["audit log"]["well"], findings["audit log"]["detail"]))
    (owner_well, by_trigger), (server_well, by_grant) = told
    assert owner_well
    assert server_well
    assert "by a trigger alone: molecule could drop it" in by_trigger
    assert "by grant: molecule_server may not change" in by_grant


def test_migrate_grants_a_servers_role_its_rights(shell: Shell, server: RunningServer) -> None:
    there = {"DATABASE_URL": server.database_url}
    done = shell.run("migrate", "--server-role", "molecule_server", **there)
    assert (done.returncode, done.stderr) == (0, "nothing to do\n")
    refused = shell.run("migrate", "--server-role", "nobody-has-it", **there)
    assert refused.returncode
    assert "does not exist" in refused.stderr
