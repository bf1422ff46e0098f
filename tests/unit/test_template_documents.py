"""YAML of strangers: its meaning, its includes, and its limits."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.templates.parsing.documents import MAX_DEPTH, Documents
from molecule_grpc.templates.reading.files import TemplateInvalid
from tests.waiting import at_most_a_second


def load(text: str, **files: str) -> Any:
    given = {"org.yaml": text.encode()}
    given |= {path.replace("__", "/"): content.encode() for path, content in files.items()}
    return Documents(given).load("org.yaml")


def test_scalars_mean_what_yaml_1_2_says() -> None:
    text = """
    - yes
    - 12:30
    - 2026-01-01
    - 0o17
    - 007
    - "1"
    - 1
    - -2.5
    - true
    - ~
    - !!str 5
    """
    assert load(text) == [
        "yes", "12:30", "2026-01-01", "0o17", "007", "1", 1, -2.5, True, None, "5",
    ]  # fmt: skip


def test_aliases_and_merges_are_written_out() -> None:
    text = """
    base: &base {a: 1, b: [x]}
    other: {<<: *base, a: 2}
    third: {<<: [*base, {c: 3}]}
    list: *base
    """
    loaded = load(text)
    assert loaded["other"] == {"a": 2, "b": ["x"]}
    assert loaded["third"] == {"a": 1, "b": ["x"], "c": 3}
    assert loaded["list"] == {"a": 1, "b": ["x"]}


def test_a_key_that_is_there_twice_is_told_with_its_line() -> None:
    with pytest.raises(TemplateInvalid, match=r"'org.yaml' line 3: the key 'a' is there twice"):
        load("\na: 1\na: 2\n")


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system ''",
        "a: !custom {}",
        "? [a]\n: b",
        "a: &x [*x]",
        "a: [",
        "a: b: c",
        "---\na: 1\n---\nb: 2\n",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
        "a: *nowhere",
        "\x00",
    ],
    ids=lambda text: repr(text[:20]),
)  # fmt: skip
def test_what_is_no_plain_document_is_refused(text: str) -> None:
    with pytest.raises(TemplateInvalid):
        load(text)


def test_a_million_laughs_are_refused_before_they_are_written_out() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(TemplateInvalid, match="too much"):
        load("\n".join(lines))


def test_texts_that_aliases_and_includes_repeat_count_by_their_length() -> None:
    long = "x" * 900_000
    with pytest.raises(TemplateInvalid, match="too much"):
        load(f"a: &a {long}\nb: [{'*a, ' * 100}]")
    with pytest.raises(TemplateInvalid, match="or long ones"):
        load(f"a: [{'!include b.yaml, ' * 100}]", **{"b.yaml": long})
    # What means nothing is parsed each time, too.
    with pytest.raises(TemplateInvalid, match="bytes are included"):
        load(f"a: [{'!include b.yaml, ' * 100}]", **{"b.yaml": f"b # {long}"})


def test_thousands_of_merges_are_not_copied_each_time() -> None:
    """Copied at each merge, these took ten seconds."""
    with at_most_a_second():
        loaded = load("a: {<<: [" + ",".join(f"{{k{n}: }}" for n in range(20_000)) + "], k0: 1}")
    assert (len(loaded["a"]), loaded["a"]["k0"]) == (20_000, 1)


def test_of_merged_mappings_the_first_wins() -> None:
    text = "a: {<<: [{x: 1}, {x: 2, y: 2}], <<: {x: 3, y: 3, z: 3}}"
    assert load(text)["a"] == {"x": 1, "y": 2, "z": 3}


def test_nesting_by_aliases_counts_as_nesting() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))]
    with pytest.raises(TemplateInvalid, match="nested too deeply"):
        load("\n".join(lines))


def test_includes_are_relative_to_the_file_that_names_them() -> None:
    loaded = load(
        "workspaces: [!include teams/a.yaml]",
        teams__a_yaml="",
        **{"teams/a.yaml": "{name: a, children: [!include ../roles/b.yaml]}"},
        **{"roles/b.yaml": "name: b"},
    )
    assert loaded["workspaces"][0]["children"] == [{"name": "b"}]
    assert loaded["workspaces"][0]["children"][0].source == "roles/b.yaml"


@pytest.mark.parametrize(
    "target",
    [
        "../outside.yaml",
        "/etc/passwd",
        "a/../../x",
        "..",
        "..\\\\x",
        "missing.yaml",
        "org.yaml",
        '""',
    ],
)
def test_no_include_leads_out_or_around(target: str) -> None:
    with pytest.raises(TemplateInvalid):
        load(f"a: !include {target}")


def test_includes_that_double_at_each_level_are_refused() -> None:
    files = {f"{n}.yaml": f"[!include {n + 1}.yaml, !include {n + 1}.yaml]" for n in range(15)}
    with pytest.raises(TemplateInvalid, match="includes at most"):
        load("!include 0.yaml", **files, **{"15.yaml": "x"})


def test_includes_deeper_than_sixteen_files_are_refused() -> None:
    files = {f"{n}.yaml": f"!include {n + 1}.yaml" for n in range(16)}
    assert load("!include 1.yaml", **files, **{"16.yaml": "x"}) == "x"
    with pytest.raises(TemplateInvalid, match="deeper"):
        load("!include 0.yaml", **files, **{"16.yaml": "x"})


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!?|>'\"#\n \t,<%@`0~"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(TemplateInvalid):
        load(text)
