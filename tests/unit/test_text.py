"""Text on its way into Postgres is whole, storable and within its limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.kernel.text import clean, cut_bytes, cut_chars

# With NUL and lone surrogates, which JSON can carry and Postgres cannot.
ANY = st.text(st.characters())
STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))


@given(ANY)
def test_clean_text_is_what_postgres_takes(text: str) -> None:
    cleaned = clean(text)
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == cleaned
    assert clean(cleaned) == cleaned


@given(STORABLE)
def test_good_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_a_lone_surrogate_is_replaced_and_the_rest_stays() -> None:
    assert clean("a\ud800b\x00c") == "a?bc"


@given(STORABLE, st.integers(0, 64))
def test_cut_text_is_the_longest_start_that_fits(text: str, limit: int) -> None:
    cut = cut_bytes(text, limit)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit
    if cut != text:
        assert len(text[: len(cut) + 1].encode()) > limit


def test_no_character_is_split() -> None:
    assert cut_bytes("é" * 3, 5) == "éé"
    assert cut_bytes("🙂🙂", 7) == "🙂"


@given(STORABLE, st.integers(1, 20))
def test_cut_characters_show_that_something_is_missing(text: str, limit: int) -> None:
    cut = cut_chars(text, limit)
    assert len(cut) <= limit
    assert cut == text if len(text) <= limit else cut == text[: limit - 1] + "…"
