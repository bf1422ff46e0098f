"""What a template means: workspaces, what they inherit, and what they are started with."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from molecule_grpc.directory import InitialMemory
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.templates.fingerprints import changes, fingerprints
from molecule_grpc.templates.generating import MAX_VALUES, Wanted, configured
from molecule_grpc.templates.parsing import organizations, rules
from molecule_grpc.templates.reading.files import TemplateInvalid
from molecule_grpc.templates.values import Node, OrgTemplate, Requirement, Skipped
from tests.org_templates import LONG_ROLE, real_template
from tests.waiting import at_most_a_second


def parse(
    org: str, variables: dict[str, str] | None = None, files: dict[str, str] | None = None
) -> OrgTemplate:
    given = {path: text.encode() for path, text in (files or {}).items()}
    given["org.yaml"] = org.encode()
    return organizations.of_files(given, variables or {})


def only(org: str, variables: dict[str, str] | None = None) -> Node:
    [node] = parse(org, variables).nodes
    return node


def config_of(wanted: Wanted, *layers: dict[str, str]) -> dict[str, Any]:
    made = configured(wanted, [{k: v.encode() for k, v in each.items()} for each in layers], {})
    text = made.files["config.yaml"].decode()
    keys = [line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()]
    assert len(keys) == len(set(keys))
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_a_template_as_its_authors_write_it() -> None:
    template = organizations.of_files(real_template(), {})
    nodes = {node.name: node for node in template.nodes}
    assert (len(nodes), max(len(node.path) for node in template.nodes)) == (42, 4)
    lead = nodes["Dev Lead"]
    assert lead.role == LONG_ROLE.replace("\n", " ")
    assert lead.secrets == {"GITHUB_TOKEN": "ghp lead", "TELEGRAM_BOT_TOKEN": "12:ab"}
    assert nodes["Worker 0"].secrets["WORKER_KEY"] == "w0"
    assert [each.name for each in lead.schedules] == ["Orchestrator pulse", "broken"]
    assert lead.schedules_skipped == (Skipped("empty", "has no prompt"),)
    assert lead.schedules[0].prompt.startswith("Pulse: ")
    assert "system-prompt.md" in lead.files
    assert not any(path.endswith(".env") for node in template.nodes for path in node.files)
    team = nodes["Team 0 & Co"]
    assert team.plugins == ("careful-review", "not-there", "extra-0")
    assert team.settings["category_routing"]["security"] == ["Somebody"]
    assert len(nodes["Worker 1"].settings["category_routing"]) == 20
    assert nodes["Worker 1"].settings["idle_prompt"] == "Look for work."
    assert nodes["Team 1 & Co"].settings["idle_prompt"].startswith("Nothing to do?")
    assert template.requirements.required == (
        Requirement(("GITHUB_TOKEN",)),
        Requirement(("ANTHROPIC_API_KEY", "OPENAI_API_KEY")),
    )
    assert lead.memories[-1] == InitialMemory("Everybody writes English.", "GLOBAL")
    assert nodes["Marketing"].memories == (InitialMemory("The house is called Molecule.", "LOCAL"),)
    assert not any(node.fault for node in template.nodes)


def test_the_nesting_says_who_is_whose_parent() -> None:
    org = "workspaces: [{name: a, children: [{name: b, parent: a}, {name: c, parent: b}]}]"
    _, right, wrong = parse(org).nodes
    assert right.notes == ()
    assert wrong.notes == ("parent: b is ignored: the workspace stands below a",)


@pytest.mark.parametrize(
    ("fields", "directory", "fault", "noted"),
    [
        ("workspace_dir: /Users/x", "", "", True),
        ("workspace_dir: '${WORKSPACE_DIR}'", "", "", True),
        ("workspace_dir: '${SET}/a', workspace_access: read_only", "/srv/a", "", False),
        ("workspace_dir: '${UNSET}', workspace_access: read_only", "", "not set", False),
        ("workspace_access: read_write", "", "needs workspace_dir", False),
        ("workspace_access: all", "", "must be one of", False),
    ],
)
def test_a_directory_of_the_host_counts_where_it_is_needed(
    fields: str, directory: str, fault: str, noted: bool
) -> None:
    node = only(f"workspaces: [{{name: a, {fields}}}]", {"SET": "/srv"})
    assert node.workspace_dir == directory
    assert fault in node.fault
    assert bool(node.fault) == bool(fault)
    assert bool(node.notes) == noted


@pytest.mark.parametrize(
    "org",
    [
        "", "[]", "workspaces: {}", "workspaces: [a]", "workspaces: [{role: x}]",
        "workspaces: [{name: a}, {name: a}]", "workspaces: [{name: a, tier: high}]",
        "workspaces: [{name: a, tier: -1}]", "workspaces: [{name: [a]}]",
        "workspaces: [{name: a, files_dir: ../x}]", "workspaces: [{name: a, files_dir: /etc}]",
        "workspaces: [{name: a, template: ../x}]", "workspaces: [{name: a, children: b}]",
        "workspaces: [{name: a, initial_prompt_file: ../../x}]",
        "workspaces: [{name: a, plugins: [[b]]}]", "defaults: [a]\nworkspaces: [{name: a}]",
        "workspaces: [" + ",".join(f"{{name: n{n}}}" for n in range(501)) + "]",
    ],
    ids=lambda org: org[:50],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_as_a_whole(org: str) -> None:
    with pytest.raises(TemplateInvalid):
        parse(org)


def test_without_org_yaml_there_is_no_template_and_both_spellings_are_known() -> None:
    with pytest.raises(NotFound):
        organizations.of_files({"other.yaml": b""}, {})
    found = organizations.of_files({"org.yml": b"workspaces: [{name: a}]"}, {}, "dir")
    assert (found.name, len(found.nodes)) == ("dir", 1)


@pytest.mark.parametrize(
    ("name", "fits"),
    [("R&D > all!", True), ("x" * 255, True), ("é" * 128, False), ("a\u202eb", False)],
)
def test_a_name_that_cannot_be_stored_is_the_fault_of_its_workspace(name: str, fits: bool) -> None:
    template = organizations.inline({"workspaces": [{"name": name}]}, {})
    assert bool(template.nodes[0].fault) != fits


def test_names_and_roles_are_folded_to_one_line() -> None:
    node = only('workspaces: [{name: "a\\n b\\r\\nc", role: "x\\ty\\u2028z"}]')
    assert (node.name, node.role) == ("a b c", "x y z")


def test_folding_takes_no_time_in_the_square_of_the_blanks() -> None:
    """A pattern that did kept all threads of the process for hours, and so ended the server."""
    with at_most_a_second():
        assert rules.folded(f"a{' ' * 100_000}b\n \r\n\tc ") == f"a{' ' * 100_000}b c"


def test_a_configuration_that_takes_long_to_write_is_refused() -> None:
    """Each of 500 workspaces may inherit the same."""
    many = "x: [" + "a," * MAX_VALUES + "a]"
    with pytest.raises(TemplateInvalid, match="20000 values"):
        config_of(Wanted(name="a", role="", tier=1), {"config.yaml": many})
    long = {"category_routing": {str(n): ["x" * 1000] for n in range(3_000)}}
    with pytest.raises(TemplateInvalid, match="2 MiB"):
        config_of(Wanted(name="a", role="", tier=1, settings=long))


def test_prompts_are_inline_or_in_files_or_inherited() -> None:
    org = """
    defaults: {initial_prompt: all, idle_prompt_file: idle.md}
    workspaces:
      - {name: a, files_dir: a, initial_prompt_file: own.md}
      - {name: b, initial_prompt: inline, initial_prompt_file: own.md}
      - {name: c, initial_prompt_file: missing.md}
    """
    files = {"idle.md": "be idle", "a/own.md": "own"}
    a, b, c = parse(org, files=files).nodes
    assert [each.settings["initial_prompt"] for each in (a, b, c)] == ["own", "inline", "all"]
    assert {each.settings["idle_prompt"] for each in (a, b, c)} == {"be idle"}
    assert c.notes == ("initial_prompt_file: there is no file 'missing.md'",)


def test_requirements_are_joined() -> None:
    def asked(*entries: object) -> list[Requirement]:
        return [found for each in entries if (found := rules.requirement(each))]

    joined = rules.union(
        asked("B", "A", {"any_of": ["C", "D"]}, {"any_of": ["D", "C"]}, {"any_of": ["A", "X"]}),
        asked("A", "E", "lower", "1X", {"any_of": ["bad name"]}, {"any_of": ["E", "F"]}, 5),
    )
    assert [each.names for each in joined.required] == [("A",), ("B",), ("C", "D")]
    assert [each.names for each in joined.recommended] == [("E",)]
    lacking = rules.missing(joined.required, frozenset({"A", "D"}))
    assert [each.names for each in lacking] == [("B",)]


def test_env_files_are_read_as_shells_do() -> None:
    text = "A=1\nexport B = two words # no\nC='x # y'\nD=\"q\"\n# E=1\nF=\n1G=1\nH=a=b\nnonsense\n"
    assert rules.env_entries(text) == {
        "A": "1", "B": "two words", "C": "x # y", "D": "q", "H": "a=b",
    }  # fmt: skip


def test_config_is_parsed_and_merged() -> None:
    """Template under files of the workspace under the workspace's own fields; no key twice."""
    wanted = Wanted(
        name="R&D: 'x' #1", role="a > b\\n", tier=2, settings={"initial_prompt": "l1\nl2: *x\n"}
    )
    config = config_of(
        wanted,
        {"config.yaml": "name: T\nruntime: claude-code\nruntime_config: {model: opus, a: 1}\nx: y"},
        {"config.yaml": "tier: 9\nruntime_config: {timeout: 30}\nshared_context: [a]"},
    )
    assert config == {
        "name": "R&D: 'x' #1", "description": "a > b\\n", "version": "1.0.0", "tier": 2,
        "runtime": "claude-code", "model": "opus", "x": "y", "initial_prompt": "l1\nl2: *x\n",
        "runtime_config": {"model": "opus", "a": 1, "timeout": 30},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("runtime", "model", "settings"),
    [
        ("claude-code", "sonnet", {"timeout": 0}),
        ("hermes", "anthropic:claude-opus-4-7", {"timeout": 0}),
        ("langgraph", "anthropic:claude-opus-4-7", None),
        ("", "anthropic:claude-opus-4-7", None),
    ],
)
def test_the_minimal_config(runtime: str, model: str, settings: object) -> None:
    config = config_of(Wanted(name="a", role="", tier=3, runtime=runtime))
    assert (config["runtime"], config["model"]) == (runtime or "langgraph", model)
    assert config.get("runtime_config") == settings
    assert "required_env" not in config


def test_a_node_wins_over_what_its_files_name() -> None:
    config = config_of(
        Wanted(name="a", role="", tier=3, runtime="hermes", model="mine"),
        {"config.yaml": "runtime: x\nmodel: old\nruntime_config: {model: theirs}"},
    )
    assert (config["runtime"], config["model"]) == ("hermes", "mine")
    assert config["runtime_config"]["model"] == "mine"


def test_changes_are_named_by_part_and_file() -> None:
    one, two = (only(f"workspaces: [{{name: a, role: {role}}}]") for role in ("x", "y"))
    made = configured(Wanted(name="a", role="", tier=1), [], {})
    other = configured(Wanted(name="a", role="", tier=1), [{"new.md": b""}], {})
    then = fingerprints(one, made)
    assert changes(then, fingerprints(one, made)) == ()
    assert changes(then, fingerprints(two, other)) == ("files/new.md", "role")


def test_hosts_are_inherited_and_a_wrong_one_is_the_fault_of_its_workspace() -> None:
    org = """
    defaults: {egress: [a.example, "*.b.example"]}
    workspaces:
      - {name: a}
      - {name: b, egress: none}
      - {name: c, egress: open}
      - {name: d, external: true}
      - {name: e, egress: ["not a host"]}
    """
    *good, bad = parse(org).nodes
    hosts = [node.egress.hosts for node in good]
    assert hosts == [("a.example", "*.b.example"), (), None, None]
    assert bad.fault
