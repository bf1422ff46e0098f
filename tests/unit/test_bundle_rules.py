"""Bundles: where their parts lie, what they may hold, and that nothing is lost on the way."""

from __future__ import annotations

import dataclasses
import json
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molecule_grpc.bundles import layout, rules
from molecule_grpc.bundles.values import Bundle, Skill, Texts, Tool
from molecule_grpc.kernel.errors import Invalid
from tests.conftest import LONG

IDS = st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,12}\Z")
# Text that Postgres stores.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
PARTS = st.text(
    st.characters(exclude_characters="\0/.\\", exclude_categories=["C"]), min_size=1, max_size=8
)
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
PROMPTS = st.dictionaries(
    PATHS.filter(lambda path: not layout.is_reserved(path)), TEXTS, max_size=4
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
SKILLS = st.builds(Skill, IDS, TEXTS, TEXTS, st.dictionaries(PATHS, TEXTS, max_size=3))
TOOLS = st.builds(Tool, IDS, JSON.map(lambda data: json.dumps(data, separators=(",", ":"))))
LINES = TEXTS.map(lambda text: layout.BREAKS.sub("", text))
NODES = st.builds(
    Bundle,
    name=st.text(string.ascii_letters, min_size=1, max_size=8),
    tier=st.integers(0, 100),
    system_prompt=TEXTS,
    skills=st.lists(SKILLS, max_size=3, unique_by=lambda each: each.id).map(tuple),
    tools=st.lists(TOOLS, max_size=3, unique_by=lambda each: each.id).map(tuple),
    prompts=PROMPTS,
    author=LINES,
    version=LINES,
)


def read_back(bundle: Bundle) -> Bundle:
    """The parts of a bundle, as an export makes them of the files of an import."""
    files = layout.to_files(bundle)
    about = files.pop(layout.ABOUT, b"").decode()
    texts = Texts({path: content.decode() for path, content in files.items()}, [])
    return dataclasses.replace(bundle, **layout.parts(texts, about))


@settings(max_examples=300 if LONG else 100, deadline=None)
@given(NODES)
def test_what_goes_into_files_comes_out_of_them(bundle: Bundle) -> None:
    assert read_back(bundle) == bundle


@settings(max_examples=200 if LONG else 60, deadline=None)
@given(NODES)
def test_a_checked_bundle_stays_as_it_is(bundle: Bundle) -> None:
    """An export passes the rules of an import, and has a configuration that names the runtime."""
    once = rules.checked(bundle)
    assert rules.checked(once) == once == read_back(once)
    assert layout.CONFIG in once.prompts


@pytest.mark.parametrize(
    ("config", "runtime"),
    [
        ("", "langgraph"),
        ("name: x\nruntime: claude-code\n", "claude-code"),
        ('runtime: "hermes"  # ours', "hermes"),
        ("runtime: external\r\n", "external"),
        ("runtime: ../../etc", "langgraph"),
        ("runtime: x\nruntime: {a: b}", "x"),
        ("runtime_config:\n  runtime: codex", "langgraph"),
        ("runtime: Not One", "langgraph"),
    ],
)
def test_the_configuration_names_the_runtime(config: str, runtime: str) -> None:
    assert rules.runtime_of(Bundle(name="x", prompts={"config.yaml": config})) == runtime


@pytest.mark.parametrize("runtime", ["langgraph", "claude-code", "external"])
def test_a_made_configuration_names_its_runtime(runtime: str) -> None:
    """Whatever stands in the name: quotes, line breaks, YAML."""
    bundle = Bundle(name='x"\nruntime: evil', description="a: [b")
    made = rules.with_configuration(bundle, runtime)
    assert rules.runtime_of(made) == runtime


def below(levels: int) -> Bundle:
    found = Bundle(name="leaf")
    for _ in range(levels - 1):
        found = Bundle(name="node", below=(found,))
    return found


def test_the_deepest_bundle_that_is_taken() -> None:
    assert rules.count(rules.checked(below(rules.MAX_LEVELS))) == rules.MAX_LEVELS
    with pytest.raises(Invalid, match="levels"):
        rules.checked(below(rules.MAX_LEVELS + 1))


def test_the_widest_bundle_that_is_taken() -> None:
    leaves = tuple(Bundle(name=f"leaf {n}") for n in range(rules.MAX_NODES))
    widest = Bundle(name="root", below=leaves[1:])
    assert rules.count(rules.checked(widest)) == rules.MAX_NODES
    with pytest.raises(Invalid, match="200 workspaces"):
        rules.checked(Bundle(name="root", below=leaves))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        ".auth_token",
        "a/.env",
        "a\\b",
        "a\nb",
        "x" * 513,
    ],
)
@pytest.mark.parametrize("part", ["prompts", "skills"])
def test_a_path_stays_where_it_belongs(path: str, part: str) -> None:
    given_parts: dict[str, Any] = {
        "prompts": {"prompts": {path: "x"}},
        "skills": {"skills": (Skill("s", files={path: "x"}),)},
    }
    with pytest.raises(Invalid, match="path"):
        rules.checked(Bundle(name="x", **given_parts[part]))


@pytest.mark.parametrize("path", ["system-prompt.md", "skills/a/b.md", "skills/x", "tools/t.json"])
def test_a_prompt_has_no_path_of_another_part(path: str) -> None:
    with pytest.raises(Invalid, match="names no prompt"):
        rules.checked(Bundle(name="x", prompts={path: "x"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " \n"},
        {"name": "x" * 1001},
        {"tier": 101},
        {"model": "two\nlines"},
        {"skills": (Skill("../up"),)},
        {"skills": (Skill("a"), Skill("a"))},
        {"tools": (Tool(".hidden", "{}"),)},
        {"prompts": {f"p{n}": "" for n in range(501)}},
        {"prompts": {"big": "x" * (2 * 1024 * 1024 + 1)}},
    ],
)
def test_what_breaks_a_rule_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        rules.checked(Bundle(**{"name": "x", **wrong}))
    assert refused.value.violations[0][0].startswith("bundle")


def test_names_are_on_one_line() -> None:
    made = rules.checked(Bundle(name="a & b\r\nc", description="one\ntwo"))
    assert (made.name, made.description) == ("a & b c", "one two")


def test_a_skill_that_no_bundle_named_says_its_name_itself() -> None:
    head = "---\nname: Digger\ndescription: 'digs deep'\n---\ntext"
    texts = Texts({"skills/dig/SKILL.md": head, "skills/bare/x.md": "x"}, [])
    found = layout.parts(texts, "not json")["skills"]
    assert [(each.id, each.name, each.description) for each in found] == [
        ("bare", "bare", ""), ("dig", "Digger", "digs deep"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "about", ['{"skills": 7}', '{"skills": [1, {"id": 2}], "tools": [[]]}', "[", '{"author": {}}']
)
def test_whatever_stands_in_the_hidden_file_is_survived(about: str) -> None:
    found = layout.parts(Texts({"tools/t.json": "{", "skills/no/../x": "y"}, []), about)
    assert found["author"] == ""
    assert [each.reason for each in found["omitted"]] == ["unreadable"]
