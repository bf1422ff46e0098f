"""File names and media types: the vectors, and what holds for every name."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.upload.names import clean_media_type, clean_name, content_disposition

NAMES = st.text(st.characters(), max_size=300) | st.text("a./_-é🙂\x00\ud800 ", max_size=300)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("report.pdf", "report.pdf"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "..."),
        ("/", "_"),
        ("//", "_"),
        ("a/b/c.txt", "c.txt"),
        ("a/b/", "b"),
        ("../../etc/passwd", "passwd"),
        ("my cat photo.png", "my_cat_photo.png"),
        ("two  spaces", "two__spaces"),
        ("a\tb\nc", "a_b_c"),
        ("q\"uote'.txt", "q_uote_.txt"),
        ("semi;colon&amp.sh", "semi_colon_amp.sh"),
        ("r\u00e9sum\u00e9.pdf", "r_sum_.pdf"),
        ("re\u0301sume\u0301.pdf", "re_sume_.pdf"),
        ("Отчёт за 2025.pdf", "_________2025.pdf"),
        ("日本.txt", "__.txt"),
        ("🙂.png", "_.png"),
        ("C:\\Users\\x\\y.txt", "C__Users_x_y.txt"),
        ("a\\..\\b.txt", "a_.._b.txt"),
        (".bashrc", ".bashrc"),
        ("..hidden", "..hidden"),
        (".tar.gz", ".tar.gz"),
        ("archive.tar.gz", "archive.tar.gz"),
        ("-rf", "-rf"),
        ("noext", "noext"),
        ("CON.txt", "CON.txt"),
        ("%2e%2e%2fetc", "_2e_2e_2fetc"),
        ("  lead.txt", "__lead.txt"),
        ("trail.txt ", "trail.txt_"),
        (" ", "_"),
        (" / ", "_"),
        ("a\x00b", "a_b"),
        ("a" * 100, "a" * 100),
        ("a" * 101, "a" * 100),
        ("a" * 120 + ".pdf", "a" * 96 + ".pdf"),
        ("b" * 96 + ".pdf", "b" * 96 + ".pdf"),
        ("b" * 97 + ".pdf", "b" * 96 + ".pdf"),
        ("c" * 100 + "." + "e" * 15, "c" * 84 + "." + "e" * 15),
        ("c" * 100 + "." + "e" * 16, "c" * 100),
        ("." + "d" * 150, "." + "d" * 99),
        ("x" * 90 + "." + "y" * 20, "x" * 90 + "." + "y" * 9),
        ("é" * 60 + ".txt", "_" * 60 + ".txt"),
        ("é" * 120 + ".txt", "_" * 96 + ".txt"),
    ],
)
def test_the_vectors_hold(raw: str, clean: str) -> None:
    """D32: the 46 vectors."""
    assert clean_name(raw) == clean
    assert clean_name(clean) == clean


@given(NAMES)
def test_every_name_becomes_a_plain_one(raw: str) -> None:
    """D32: whatever the name, surrogates included."""
    clean = clean_name(raw)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", clean)
    assert clean not in (".", "..")
    assert clean_name(clean) == clean


@given(st.text("ab/", max_size=30))
def test_slashes_at_the_end_change_nothing(raw: str) -> None:
    """D32: the name before them counts."""
    if raw.strip("/"):
        assert clean_name(raw + "//") == clean_name(raw)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("", ""),
        ("image/png", "image/png"),
        ("text/plain; charset=utf-8", "text/plain"),
        ("text/plain ; charset=utf-8", "text/plain"),
        (";charset=utf-8", ""),
        ("text", "application/octet-stream"),
        ("a/b/c", "application/octet-stream"),
        ("text/pl ain", "application/octet-stream"),
        ("text/\x01plain", "application/octet-stream"),
        ("téxt/plain", "application/octet-stream"),
        ("text/plain\r\nx-evil: 1", "application/octet-stream"),
        ("/plain", "application/octet-stream"),
        ("a/" + "b" * 300, "application/octet-stream"),
    ],
)
def test_media_types_are_cleaned(raw: str, clean: str) -> None:
    assert clean_media_type(raw) == clean


def test_a_download_is_never_shown_and_its_name_survives() -> None:
    name = 'a"b\\c\r\nx: é🙂.txt'
    header = content_disposition(name)
    assert header.startswith('attachment; filename="a\\"b\\\\cx: ??.txt')
    assert "\r" not in header
    assert "\n" not in header
    assert header.isascii()
    encoded = header.partition("filename*=UTF-8''")[2]
    assert urllib.parse.unquote(encoded) == 'a"b\\cx: é🙂.txt'
