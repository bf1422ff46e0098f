"""Files of a workspace that runs, by a shell inside its pod."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Final

from molecule_grpc.backends.contract.entering import FileEntry
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    FailureReason,
    RootReadOnly,
    TooManyFiles,
)
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.execs import run, start_exec
from molecule_grpc.backends.shell_files import (
    DELETE,
    DIRECTORY,
    LIST,
    NOT_THERE,
    OUTPUT_BYTES,
    OUTSIDE,
    REFUSALS,
    entries_of,
    is_read_only,
    listing_bytes,
)

# Where `$1` leads, below `$2`: with all links followed (`$3` is `whole`), or all but a last one. A
# name may end with newlines, which a substitution of the shell would cut off.
_RESOLVE: Final = f"""
there=$1 last=
[ "$3" = whole ] || {{ last=/${{1##*/}}; there=${{1%/*}}/; }}
[ "$3" != new ] || mkdir -p -- "$there" || exit 1
real=$(readlink -f -- "$there" && echo x) || exit {NOT_THERE}
real=${{real%?x}}$last
case $real/ in "$2"/*) ;; *) exit {OUTSIDE} ;; esac
"""
_READ: Final = f'{_RESOLVE}[ -f "$real" ] || exit {NOT_THERE}; exec cat -- "$real"'
_DELETE: Final = f'{_RESOLVE}set -- "$real"; {DELETE}'
_LIST: Final = f'{_RESOLVE}set -- "$real" "$4"; {LIST}'
# Whoever reads the file meanwhile sees the old bytes or the new ones.
_WRITE: Final = f"""{_RESOLVE}
[ ! -d "$real" ] || exit {DIRECTORY}
part=${{real%/*}}/$4
head -c "$5" > "$part" && [ "$(wc -c < "$part")" -eq "$5" ] && mv -f -- "$part" "$real" || {{
  rm -f -- "$part"; exit 1
}}
"""


async def read(cluster: Cluster, pod: str, path: str) -> AsyncIterator[bytes]:
    """A file's bytes. Raises `FileMissing` before the first of them."""
    session = await start_exec(cluster, pod, _argv(_READ, path, "whole"), terminal=None)
    errors = bytearray()
    answered = False
    try:
        async for output in session.output():
            if not output.error:
                answered = True
                yield output.data
            elif len(errors) < OUTPUT_BYTES:
                errors += output.data
        _require(await session.exit_code(), errors, path, "the file was not read")
        if not answered:
            yield b""
    finally:
        await session.close()


async def write(
    cluster: Cluster, pod: str, path: str, content: AsyncIterator[bytes], size: int
) -> None:
    """Replace a file, with the directories above it."""
    argv = _argv(_WRITE, path, "new", f".{uuid.uuid4().hex}.part", str(size))
    session = await start_exec(cluster, pod, argv, terminal=None)
    errors = bytearray()
    try:
        async for chunk in content:
            await session.write(chunk)
        # Whoever gives less than was said has the command wait for the rest: the input ends.
        await session.close_input()
        async for output in session.output():
            errors += output.data[:OUTPUT_BYTES]
        _require(await session.exit_code(), errors, path, "the file was not written")
    finally:
        await session.close()


async def entries(cluster: Cluster, pod: str, path: str, limit: int, depth: int) -> list[FileEntry]:
    """What lies below a directory. Raises `FileMissing`, `TooManyFiles`."""
    most = listing_bytes(limit)
    argv = _argv(_LIST, path, "whole", str(depth))
    code, printed, errors = await run(cluster, pod, argv, most=most)
    if not printed:
        _require(code, errors, path, "the files were not listed")
    if len(printed) >= most:
        raise TooManyFiles(path)
    return entries_of(printed, path, limit)


async def delete(cluster: Cluster, pod: str, path: str) -> None:
    """Delete a file, or a link to one. Raises `FileMissing`."""
    code, _, errors = await run(cluster, pod, _argv(_DELETE, path, "link"), most=OUTPUT_BYTES)
    _require(code, errors, path, "the file was not deleted")


def _argv(script: str, path: str, kind: str, *more: str) -> list[str]:
    top = "/" + path.strip("/").partition("/")[0]
    return ["sh", "-c", script, "sh", path, top, kind, *more]


def _require(code: int, errors: bytes | bytearray, path: str, public: str) -> None:
    if code == 0:
        return
    if is_read_only(errors):
        raise RootReadOnly(path)
    if code in REFUSALS:
        raise REFUSALS[code](path)
    detail = errors[:500].decode(errors="replace")
    raise BackendFailure(FailureReason.ENGINE, public, detail=detail)
