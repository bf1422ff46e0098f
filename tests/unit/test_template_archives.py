"""Archives of strangers: only files, only below the archive, only so much."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from molecule_grpc.kernel.errors import Invalid, NotFound
from molecule_grpc.templates.reading.archives import read_archive
from molecule_grpc.templates.reading.directories import child, read_directory
from molecule_grpc.templates.reading.files import (
    MAX_BYTES,
    MAX_FILES,
    Collected,
    TemplateInvalid,
    without_top,
)
from tests.org_templates import tar_of, zip_of

FILES = {"org.yaml": b"name: a\n", "roles/lead.md": b"\xff\x00bytes"}


def tar_with(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.mark.parametrize(
    "archive",
    [
        tar_of(FILES, "w"), tar_of(FILES), zip_of(FILES), tar_of(FILES, top="./"),
        tar_of(FILES | {".git/config": b"x", "node_modules/a/b.js": b"x"}),
        gzip.compress(tar_of(FILES, "w")[:700]) + gzip.compress(tar_of(FILES, "w")[700:]),
    ],
)  # fmt: skip
def test_files_come_out_as_they_went_in(archive: bytes) -> None:
    assert read_archive(archive) == FILES


def test_the_only_directory_of_an_archive_is_its_root() -> None:
    files = read_archive(tar_of(FILES, top="template-1.0/"))
    assert without_top(files, ("org.yaml",)) == FILES
    assert without_top(FILES, ("org.yaml",)) == FILES
    two = {"a/x": b"", "b/y": b""}
    assert without_top(two, ("org.yaml",)) == two


@pytest.mark.parametrize(
    "archive",
    [
        b"", b"no archive", b"\x1f\x8bcut", tar_of(FILES)[:60], zip_of(FILES)[:-30],
        tar_with(member("../up", size=1), b"x"),
        tar_with(member("/abs", size=1), b"x"),
        tar_with(member("a/../../b", size=1), b"x"),
        tar_with(member("link", tarfile.SYMTYPE, linkname="/etc/passwd")),
        tar_with(member("hard", tarfile.LNKTYPE, linkname="org.yaml")),
        tar_with(member("pipe", tarfile.FIFOTYPE)),
        tar_with(member("device", tarfile.CHRTYPE)),
        zip_of({"../up": b"x"}), zip_of({"/abs": b"x"}), zip_of({"a\\..\\b": b"x"}),
        tar_of({"big": b"\0" * (MAX_BYTES + 1)}),
        zip_of({"big": b"\0" * (MAX_BYTES + 1)}),
        tar_of({f"{n}": b"" for n in range(MAX_FILES + 1)}),
        zip_of({f"{n}": b"" for n in range(MAX_FILES + 1)}),
        gzip.compress(b"\0" * (MAX_BYTES * 3)),
    ],
    ids=range(20),
)  # fmt: skip
def test_a_hostile_archive_is_refused(archive: bytes) -> None:
    with pytest.raises(TemplateInvalid):
        read_archive(archive)


def test_a_link_in_a_zip_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(TemplateInvalid, match="is a link"):
        read_archive(target.getvalue())


def test_the_size_that_a_zip_names_is_not_believed() -> None:
    """A bomb's header names a small size: the inflated bytes are counted."""
    honest = bytearray(zip_of({"big": b"\0" * (MAX_BYTES + 1)}))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", honest, honest.find(mark) + offset, 10)
    with pytest.raises(TemplateInvalid):
        read_archive(bytes(honest))


def test_a_name_that_comes_twice_is_refused() -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for content in (b"a", b"b"):
            archive.addfile(member("x", size=1), io.BytesIO(content))
    with pytest.raises(TemplateInvalid, match="twice"):
        read_archive(target.getvalue())


def test_links_of_a_directory_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    root = tmp_path / "template"
    (root / "roles").mkdir(parents=True)
    (root / "org.yaml").write_text("name: a")
    (root / "link.yaml").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    os.mkfifo(root / "pipe")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    assert read_directory(root) == {"org.yaml": b"name: a"}
    with pytest.raises(TemplateInvalid):
        read_directory(root, Collected(max_bytes=3))


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "a/../..", "a\x00", "a\\b"])
def test_a_name_of_a_template_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        child(tmp_path, name, "dir")


def test_a_linked_template_is_none(tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("link", "missing"):
        with pytest.raises(NotFound):
            child(tmp_path / "all", name, "dir")
