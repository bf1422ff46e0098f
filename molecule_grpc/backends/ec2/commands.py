"""Commands with root's rights on a machine, and what their exit codes say.

Every script here ends with a code of its own; sudo's own refusal is 1, which no script uses. So a
file that is not there is never mistaken for a refused sudo, nor for a machine that is away.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

import asyncssh

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.shell_files import DIRECTORY, NOT_THERE, OUTSIDE, REFUSALS

_FAILED: Final = 74
_SUDO_REFUSED: Final = frozenset({1, 126, 127})
_CHUNK_BYTES: Final = 64 * 1024

# Sets `path` to where links lead from $1, which must be below the directory $2. What a command
# prints loses line feeds at its end, and a name may have some: `x` stands behind them.
_RESOLVE: Final = f"""
real() {{ found=$(realpath -m -- "$1"; echo x); found=${{found%??}}; }}
real "$2"; base=$found; real "$1"; path=$found
case "$path/" in "$base"/*) ;; *) exit {OUTSIDE};; esac
"""
# The same for what is replaced or deleted, where the last name may be a link itself.
_RESOLVE_ABOVE: Final = f"""
real() {{ found=$(realpath -m -- "$1"; echo x); found=${{found%??}}; }}
real "$2"; base=$found; real "${{1%/*}}"; path=$found/${{1##*/}}
case "$found/" in "$base"/*) ;; *) exit {OUTSIDE};; esac
"""
# A line feed, then the file's bytes. The line feed tells the reader that the file exists.
READ: Final = (
    f'{_RESOLVE}test -f "$path" || exit {NOT_THERE}; echo; cat -- "$path" || exit {_FAILED}'
)
# Beside the file first: whoever reads meanwhile sees the old bytes or the new ones. A connection
# that broke looks like the end of the bytes, so they are counted.
WRITE: Final = f"""{_RESOLVE_ABOVE}
test -d "$path" && ! test -L "$path" && exit {DIRECTORY}
part=$found/.$3.part
install -D -m 0644 /dev/stdin "$part" && test "$(stat -c %s -- "$part")" = "$4" \\
  && mv -fT -- "$part" "$path" || {{ rm -f -- "$part"; exit {_FAILED}; }}
"""
LIST: Final = f"""{_RESOLVE}
test -d "$path" || exit {NOT_THERE}
find "$path" -mindepth 1 -maxdepth "$3" -printf "%y %s %T@ %P\\0" | head -z -n "$4"; exit 0
"""
DELETE: Final = f"""{_RESOLVE_ABOVE}
test -f "$path" || test -L "$path" || exit {NOT_THERE}; rm -f -- "$path" || exit {_FAILED}
"""
# Prints the position of the first byte, a line feed, and the bytes: from position $2 on, or the
# last $3 lines. A file that is shorter than $2 was begun anew.
LOG: Final = f"""
test -f "$1" || exit {NOT_THERE}
size=$(stat -c %s -- "$1") from=$2
if [ "$3" -gt 0 ]; then
  last=$((size - $(tail -n "$3" -- "$1" | wc -c))); [ "$last" -lt "$from" ] || from=$last
fi
if [ "$from" -gt "$size" ] || [ "$from" -lt 0 ]; then from=0; fi
echo "$from"
"""
LOG_TO_THE_END: Final = f'{LOG}tail -c "+$((from + 1))" -- "$1"; exit 0'
# A channel that is closed ends the standard input, and with it the follower.
LOG_ON_AND_ON: Final = (
    f'{LOG}tail -F -c "+$((from + 1))" -- "$1" & cat >/dev/null; kill "$!"; exit 0'
)


def line(script: str, *arguments: str) -> str:
    """The command line that runs a script as root, never waiting for a password."""
    return shlex.join(["sudo", "-n", "sh", "-c", script, "sh", *arguments])


async def output(
    connection: asyncssh.SSHClientConnection, script: str, *arguments: str
) -> AsyncGenerator[bytes, None]:
    """What a script prints.

    Raises:
        FileMissing, OutsideRoot, DirectoryThere: as the script says of its first argument.
        BackendFailure: `forbidden`: sudo refuses; `engine`: the script failed.
    """
    process = await connection.create_process(
        line(script, *arguments), encoding=None, stderr=asyncssh.DEVNULL
    )
    async with process:
        while data := await process.stdout.read(_CHUNK_BYTES):
            yield data
        await process.wait(check=False)
        judge(process.exit_status, arguments[0])


async def feed(
    connection: asyncssh.SSHClientConnection,
    content: AsyncIterator[bytes],
    script: str,
    *arguments: str,
) -> None:
    """Give bytes to a script. Raises as `output` does."""
    process = await connection.create_process(
        line(script, *arguments),
        encoding=None,
        stdout=asyncssh.DEVNULL,
        stderr=asyncssh.DEVNULL,
    )
    async with process:
        try:
            async for data in content:
                process.stdin.write(data)
                await process.stdin.drain()
            process.stdin.write_eof()
        except BrokenPipeError:
            pass  # The script has ended, and its exit code says why.
        await process.wait(check=False)
        judge(process.exit_status, arguments[0])


def judge(exit_status: int | None, path: str) -> None:
    """Raise for what an exit code says."""
    if exit_status == 0:
        return
    if exit_status in REFUSALS:
        raise REFUSALS[exit_status](path)
    if exit_status in _SUDO_REFUSED:
        raise BackendFailure(
            FailureReason.FORBIDDEN,
            "the machine's account may not use sudo without a password",
            detail=f"exit code {exit_status}",
        )
    raise BackendFailure(
        FailureReason.ENGINE,
        "the machine did not do what it was asked",
        detail=f"exit code {exit_status}",
    )
