"""Files of an uploaded archive: a tar, perhaps compressed with gzip, or a zip.

Nothing is written to a disk. An archive is unpacked into bounded memory: links, devices, paths that
lead out of the archive, and whatever unpacks to more than a template may have, are refused.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from molecule_grpc.templates.reading.files import (
    MAX_BYTES,
    MAX_FILES,
    Collected,
    Files,
    TemplateInvalid,
    shown,
)

_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
# Headers and padding of each member, beside its bytes.
_TAR_OVERHEAD: Final = 3 * 512
_MOST_TAR_BYTES: Final = MAX_BYTES + MAX_FILES * _TAR_OVERHEAD
# Of the list of members at the end of a zip, which is read as a whole.
_MOST_DIRECTORY_BYTES: Final = MAX_FILES * 256
_ZIP_END: Final = struct.Struct("<4s4H2LH")
_LINK: Final = 0o120000
_KIND: Final = 0o170000
_CHUNK: Final = 64 * 1024


def read_archive(data: bytes) -> Files:
    """Every file of an archive, by path.

    Raises:
        TemplateInvalid: it is none, holds more than files and directories, or is too large.
    """
    try:
        if data.startswith(_ZIP):
            return _read_zip(data)
        return _read_tar(_unzipped(data) if data.startswith(_GZIP) else data)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        raise TemplateInvalid("the archive is neither a tar, a tar.gz nor a zip") from error
    except (NotImplementedError, RuntimeError, EOFError, ValueError, UnicodeError) as error:
        # A member that is encrypted, compressed in another way, or cut off.
        raise TemplateInvalid("the archive cannot be unpacked") from error


def _unzipped(data: bytes) -> bytes:
    """The bytes of a gzip file, as far as a template may have them."""
    unpacked, members = bytearray(), data
    while members.startswith(_GZIP):
        inflater = zlib.decompressobj(wbits=31)
        unpacked += inflater.decompress(members, _MOST_TAR_BYTES + 1 - len(unpacked))
        if len(unpacked) > _MOST_TAR_BYTES:
            raise TemplateInvalid("the archive unpacks to more than a template may have")
        if not inflater.eof:
            raise TemplateInvalid("the archive is cut off")
        members = inflater.unused_data
    return bytes(unpacked)


def _read_tar(data: bytes) -> Files:
    collected = Collected()
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            path = member.name.removeprefix("./")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise TemplateInvalid(f"{shown(path)} is neither a file nor a directory")
            if member.size > collected.room:
                raise TemplateInvalid("the files of the template are too large together")
            if collected.wants(path) and (file := archive.extractfile(member)) is not None:
                collected.add(path, file.read())
    return collected.files


def _read_zip(data: bytes) -> Files:
    _require_small_directory(data)
    collected = Collected()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            path = member.filename.removeprefix("./")
            if member.is_dir():
                continue
            if (member.external_attr >> 16) & _KIND == _LINK:
                raise TemplateInvalid(f"{shown(path)} is a link")
            if collected.wants(path):
                collected.add(path, b"".join(_inflated(archive, member, collected.room)))
    return collected.files


def _inflated(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> Iterator[bytes]:
    """A member's bytes, at most a chunk above `most`; the size in its header is not trusted."""
    with archive.open(member) as file:
        while most >= 0 and (chunk := file.read(_CHUNK)):
            most -= len(chunk)
            yield chunk


def _require_small_directory(data: bytes) -> None:
    """Refuse a list of members that would take much memory before the first of them is seen."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0:
        raise TemplateInvalid("the archive is cut off")
    _, _, _, _, _, directory_bytes, _, _ = _ZIP_END.unpack_from(data, end)
    if directory_bytes > _MOST_DIRECTORY_BYTES:
        raise TemplateInvalid(f"a template can have {MAX_FILES} files at most")
