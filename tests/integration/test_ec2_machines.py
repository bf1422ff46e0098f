"""Files, logs and terminals of a workspace on EC2: moto knows the machine, a real sshd is in it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import psutil
import pytest

from molecule_grpc.backends.contract.entering import ExecSession, TerminalSize
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    DirectoryThere,
    FailureReason,
    FileMissing,
    OutsideRoot,
    Refused,
    TooManyFiles,
    WorkloadMissing,
)
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.ec2.backend import Ec2Backend
from molecule_grpc.settings.ec2 import Ec2Settings
from tests.amazon import ScriptedAmazon, amazon, settings_for
from tests.engine.machine import Machine
from tests.integration.backends import a_start
from tests.ports import free_port
from tests.waiting import PATIENCE, until

LOG = "/var/log/molecule/agent.log"


@dataclass(slots=True)
class Stand:
    """A workspace on a machine."""

    backend: Ec2Backend
    settings: Ec2Settings
    front: ScriptedAmazon
    machine: Machine
    resource: Resource
    installation: str

    async def write(self, path: str, content: bytes, size: int = -1) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(content), 50_000):
                yield content[start : start + 50_000]

        given = len(content) if size < 0 else size
        await self.backend.write_file(self.resource, path, pieces(), given, deadline=PATIENCE)

    async def read(self, path: str) -> bytes:
        chunks = self.backend.read_file(self.resource, path, deadline=PATIENCE)
        return b"".join([chunk async for chunk in chunks])

    async def names(self, path: str, limit: int = 100, depth: int = 5) -> set[str]:
        found = await self.backend.list_files(
            self.resource, path, limit=limit, depth=depth, deadline=PATIENCE
        )
        return {each.path for each in found}

    async def failure(self) -> BackendFailure:
        """How reading a file fails."""
        with pytest.raises(BackendFailure) as failed:
            await self.read("/configs/there")
        return failed.value


@pytest.fixture
async def stand(moto: str, amazon_keys: None, machine: Machine) -> AsyncIterator[Stand]:
    async with amazon(moto) as front, contextlib.AsyncExitStack() as stack:
        settings = settings_for(front, ssh_port=machine.port)
        installation = uuid.uuid4().hex
        backend = Ec2Backend(settings, installation)
        stack.push_async_callback(backend.close)
        request = a_start(platform_url="https://platform.example")
        started = await backend.start(request, deadline=PATIENCE)
        front.keys[started.resource_id] = machine.keys
        resource = Resource(workspace_id=request.workspace_id, resource_id=started.resource_id)
        yield Stand(backend, settings, front, machine, resource, installation)
        await backend.remove_volumes(request.workspace_id, deadline=PATIENCE)


async def test_what_was_written_is_read_back(stand: Stand) -> None:
    """W36, W37: where the runtime looks, readable for its container, whatever the name."""
    name = "a 'quoted' $(name)\n"
    contents = {
        "empty": b"",
        "config.yaml": b"model: x\n",
        f"deep/{name}": bytes(range(256)) * 5000,
    }
    for path, content in contents.items():
        await stand.write(f"/configs/{path}", content)
        assert await stand.read(f"/configs/{path}") == content
    await stand.write("/configs/config.yaml", b"model: y\n")
    assert stand.machine.path("/opt/configs/config.yaml").read_bytes() == b"model: y\n"
    assert stand.machine.path("/opt/configs/config.yaml").stat().st_mode & 0o777 == 0o644
    assert await stand.names("/configs") == {"empty", "config.yaml", "deep", f"deep/{name}"}
    assert await stand.names("/configs", depth=1) == {"empty", "config.yaml", "deep"}
    with pytest.raises(TooManyFiles):
        await stand.names("/configs", limit=3)
    await stand.backend.delete_file(stand.resource, f"/configs/deep/{name}", deadline=PATIENCE)
    assert await stand.names("/configs/deep") == set()
    with pytest.raises(DirectoryThere):
        await stand.write("/configs/deep", b"")


async def test_a_write_that_breaks_off_leaves_the_old_bytes(stand: Stand) -> None:
    await stand.write("/configs/there", b"old")
    with pytest.raises(BackendFailure):
        await stand.write("/configs/there", b"half", size=100)
    assert await stand.read("/configs/there") == b"old"
    assert await stand.names("/configs") == {"there"}


async def test_what_is_not_there_and_what_is_elsewhere(stand: Stand) -> None:
    for call in (
        stand.read("/configs/none"),
        stand.names("/configs/none"),
        stand.backend.delete_file(stand.resource, "/configs/none", deadline=PATIENCE),
    ):
        with pytest.raises(FileMissing):
            await call
    await stand.write("/configs/there", b"")
    stand.machine.run("ln", "-s", "/etc/shadow", "/opt/configs/leak")
    stand.machine.run("ln", "-s", "/etc", "/opt/configs/etc")
    for call in (
        stand.read("/configs/leak"),
        stand.names("/configs/etc"),
        stand.write("/configs/etc/sudoers.d/more", b""),
        stand.backend.delete_file(stand.resource, "/configs/etc/passwd", deadline=PATIENCE),
    ):
        with pytest.raises(OutsideRoot):
            await call
    for path in ("/workspace/a", "/etc/passwd", "/configs/../etc/passwd"):
        with pytest.raises(Refused):
            await stand.read(path)


async def test_a_missing_file_a_refused_sudo_a_wrong_key_and_no_answer_are_four_answers(
    stand: Stand,
) -> None:
    """R-9.3."""
    with pytest.raises(FileMissing):
        await stand.read("/configs/there")
    stand.machine.run("rm", "/etc/sudoers.d/machine")
    refused = await stand.failure()
    assert (refused.reason, "sudo" in refused.public) == (FailureReason.FORBIDDEN, True)
    stand.front.key_age = 61  # Pushed, and too old by now.
    late = await stand.failure()
    assert (late.reason, "key" in late.public) == (FailureReason.FORBIDDEN, True)
    elsewhere = Ec2Backend(replace(stand.settings, ssh_port=free_port()), stand.installation)
    stand.backend, ours = elsewhere, stand.backend
    away = await stand.failure()
    await elsewhere.close()
    stand.backend = ours
    assert (away.reason, away.retryable) == (FailureReason.UNREACHABLE, True)


async def test_a_machine_that_rests_cannot_be_entered(stand: Stand) -> None:
    await stand.backend.stop(stand.resource, deadline=PATIENCE)
    with pytest.raises(WorkloadMissing):
        await stand.read("/configs/there")
    with pytest.raises(WorkloadMissing):
        await stand.backend.exec(stand.resource, ["true"], deadline=PATIENCE)


async def test_a_log_is_read_on_from_any_position_and_followed(stand: Stand) -> None:
    nothing = [chunk async for chunk in stand.backend.logs(stand.resource)]
    assert nothing == []
    file = stand.machine.path(LOG)
    file.parent.mkdir()
    file.write_bytes(b"one\ntwo\nthree\n")
    all_of_it = [chunk async for chunk in stand.backend.logs(stand.resource)]
    assert b"".join(each.data for each in all_of_it) == b"one\ntwo\nthree\n"
    assert all_of_it[-1].offset == 14
    last = [chunk async for chunk in stand.backend.logs(stand.resource, tail=1)]
    assert b"".join(each.data for each in last) == b"three\n"
    rest = [chunk async for chunk in stand.backend.logs(stand.resource, since=4)]
    assert b"".join(each.data for each in rest) == b"two\nthree\n"

    followed = stand.backend.logs(stand.resource, since=14, follow=True)
    assert await anext(followed) == (14, b"")
    with file.open("ab") as log:
        log.write(b"four\n")
    assert await anext(followed) == (19, b"four\n")
    await followed.aclose()
    # Nothing on the machine reads on for nobody.
    await until(lambda: _programs(stand.machine), lambda names: "tail" not in names)


async def _programs(machine: Machine) -> set[str]:
    names = set()
    for process in machine.first.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            names.add(process.name())
    return names


async def test_a_command_has_streams_input_and_an_exit_code(stand: Stand) -> None:
    script = "read line; echo got $line; echo oops >&2; exit 7"
    session = await stand.backend.exec(stand.resource, ["sh", "-c", script], deadline=PATIENCE)
    await session.write(b"a line\n")
    await session.close_input()
    printed = [each async for each in session.output()]
    assert b"".join(each.data for each in printed if not each.error) == b"got a line\n"
    assert b"".join(each.data for each in printed if each.error) == b"oops\n"
    assert await session.exit_code() == 7
    await session.write(b"nobody reads this")
    await session.close()


async def test_a_terminal_has_a_size_and_a_signal_ends_its_command(stand: Stand) -> None:
    size = TerminalSize(columns=91, rows=33)
    argv = ["sh", "-c", "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"]
    session = await stand.backend.exec(stand.resource, argv, terminal=size, deadline=PATIENCE)
    output = session.output()
    assert (await _line(output)).strip() == b"33 91"
    await session.resize(TerminalSize(columns=60, rows=20))
    assert (await _line(output)).strip() == b"20 60"
    with pytest.raises(Refused):
        await session.signal("WINCH")
    await session.signal("TERM")
    assert await session.exit_code() == 128 + 15
    await session.close()


async def _line(output: AsyncIterator[object]) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += (await anext(output)).data  # type: ignore[attr-defined]
    return line


async def test_a_command_ends_with_its_session(stand: Stand) -> None:
    session: ExecSession = await stand.backend.exec(
        stand.resource, ["sleep", "1000"], deadline=PATIENCE
    )
    await until(lambda: _programs(stand.machine), lambda names: "sleep" in names)
    await session.close()
    await until(lambda: _programs(stand.machine), lambda names: "sleep" not in names)


async def test_a_machine_that_hangs_costs_its_caller_the_deadline(stand: Stand) -> None:
    for process in [stand.machine.first, *stand.machine.first.children(recursive=True)]:
        process.suspend()
    with pytest.raises(BackendFailure) as failed:
        async with asyncio.timeout(PATIENCE):
            await stand.backend.delete_file(stand.resource, "/configs/there", deadline=0.5)
    assert failed.value.reason is FailureReason.TIMEOUT
