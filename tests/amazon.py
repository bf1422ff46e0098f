"""Amazon EC2 for tests: moto's server, and a front that adds what moto lacks and misbehaves.

For moto a second RunInstances with the same ClientToken makes a second machine; and moto knows no
errors of quota, capacity and throttling.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import aiohttp
import boto3
import httpx
import pytest
from aiohttp import web

from molecule_grpc.settings.ec2 import Ec2Settings
from tests.plugin_servers import answering
from tests.ports import free_port
from tests.waiting import PATIENCE

REGION = "us-east-2"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
# One of the machine images that moto is born with.
IMAGE = "ami-12c6146b"

_ADDRESS = re.compile(rb"(<privateIpAddress>)[^<]*<")

Behaviour = Callable[["ScriptedAmazon", web.Request, bytes], Awaitable[web.StreamResponse]]


class Asked(NamedTuple):
    """One call that arrived."""

    action: str
    given: dict[str, str]


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The URL of moto's server, one for each process of tests."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + PATIENCE
            while not _answers(url):
                assert server.poll() is None, _all_of(log)
                assert time.monotonic() < end
                time.sleep(0.05)
            yield url
        finally:
            server.terminate()
            server.wait()


@pytest.fixture
def amazon_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials where AWS tools find theirs, and no others."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/moto-api/data.json", timeout=PATIENCE).status_code == 200
    return False


def _all_of(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


@dataclass(slots=True)
class ScriptedAmazon:
    """Stands in front of moto.

    Args:
        script: by action, what befalls the next calls.
    """

    moto: str
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    # By instance, the directory into which its account's keys are pushed. Their machines listen at
    # 127.0.0.1.
    keys: dict[str, Path] = field(default_factory=dict)
    key_age: float = 0.0
    script: dict[str, list[Behaviour]] = field(default_factory=dict)
    _by_token: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def count(self, action: str) -> int:
        """How many calls of an action have arrived."""
        return sum(each.action == action for each in self.asked)

    def witness(self) -> Any:
        """Another client than the platform's, on moto itself."""
        return client_of(self.moto)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One call."""
        body = await request.read()
        action, given = _read(request, body)
        self.asked.append(Asked(action, given))
        if script := self.script.get(action):
            return await script.pop(0)(self, request, body)
        return await self.answer(request, body)

    async def answer(self, request: web.Request, body: bytes) -> web.Response:
        """What Amazon in good health answers."""
        action, given = _read(request, body)
        token = given.get("ClientToken", "")
        if action == "SendSSHPublicKey":
            self._push(json.loads(given["json"]))
        if action == "DescribeInstances" and self.keys:
            answer = await self._forward(request, body)
            assert isinstance(answer.body, bytes)
            here = _ADDRESS.sub(rb"\g<1>127.0.0.1<", answer.body)
            return web.Response(status=answer.status, body=here, content_type="text/xml")
        if action != "RunInstances" or not token:
            return await self._forward(request, body)
        async with self._lock:
            before = self._by_token.get(token)
            if before is None:
                answer = await self._forward(request, body)
                if answer.status == 200:
                    assert isinstance(answer.body, bytes)
                    self._by_token[token] = body, answer.body
                return answer
        if before[0] != body:
            return problem("IdempotentParameterMismatch", 400)
        return web.Response(body=before[1], content_type="text/xml")

    def _push(self, given: dict[str, str]) -> None:
        """A key for a machine, which works until it is 60 s old."""
        directory = self.keys.get(given["InstanceId"])
        if directory is not None:
            file = directory / given["InstanceOSUser"] / uuid.uuid4().hex
            file.write_text(given["SSHPublicKey"] + "\n")
            then = time.time() - self.key_age
            os.utime(file, (then, then))

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("host", "content-length")
        }
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, self.moto + request.path_qs, data=body, headers=headers
            ) as answer,
        ):
            content = await answer.read()
            return web.Response(
                status=answer.status, body=content, content_type=answer.content_type
            )


@contextlib.asynccontextmanager
async def amazon(moto_url: str) -> AsyncIterator[ScriptedAmazon]:
    """Amazon as the platform calls it, while inside."""
    front = ScriptedAmazon(moto_url)
    async with answering(front.handle) as url:
        front.url = url
        yield front


def client_of(moto_url: str) -> Any:
    """A client of EC2 on moto."""
    return boto3.client(
        "ec2",
        region_name=REGION,
        endpoint_url=moto_url,
        aws_access_key_id=KEYS["aws_access_key_id"],
        aws_secret_access_key=KEYS["aws_secret_access_key"],
    )


def a_template(moto_url: str, image: str = IMAGE, **data: Any) -> str:
    """The name of a new launch template."""
    name = f"template-{uuid.uuid4().hex}"
    with contextlib.closing(client_of(moto_url)) as client:
        client.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": image, "InstanceType": "t3.small", **data},
        )
    return name


def settings_for(front: ScriptedAmazon, **given: Any) -> Ec2Settings:
    """Settings of a backend on this Amazon."""
    plain: dict[str, Any] = {
        "region": REGION,
        "endpoint": front.url,
        "connect_endpoint": front.url,
        "poll": 0.05,
        **given,
    }
    if "launch_templates" not in plain:
        plain["launch_templates"] = (("*", a_template(front.moto)),)
    return Ec2Settings(**plain)


# Behaviours.


def problem(code: str, status: int = 400) -> web.Response:
    """An error as EC2 writes it, with an internal name in its text."""
    return web.Response(
        status=status,
        content_type="text/xml",
        text=f"<Response><Errors><Error><Code>{code}</Code><Message>vpc-0secret is full</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>",
    )


def failing(code: str, status: int = 400) -> Behaviour:
    """An error."""

    async def behave(_: ScriptedAmazon, __: web.Request, ___: bytes) -> web.StreamResponse:
        return problem(code, status)

    return behave


async def nothing(_: ScriptedAmazon, __: web.Request, ___: bytes) -> web.StreamResponse:
    """An empty list of machines, as EC2 may show for seconds after one was made."""
    namespace = "http://ec2.amazonaws.com/doc/2016-11-15/"
    text = f'<DescribeInstancesResponse xmlns="{namespace}"><reservationSet/>'
    return web.Response(text=f"{text}</DescribeInstancesResponse>", content_type="text/xml")


def done_then(event: asyncio.Event) -> Behaviour:
    """What was asked for is done; the answer comes after the event."""

    async def behave(
        front: ScriptedAmazon, request: web.Request, body: bytes
    ) -> web.StreamResponse:
        answer = await front.answer(request, body)
        await event.wait()
        return answer

    return behave


def _read(request: web.Request, body: bytes) -> tuple[str, dict[str, str]]:
    """The action of a call and its parameters, of both of Amazon's protocols that are used."""
    target = request.headers.get("x-amz-target", "")
    if target:
        return target.rpartition(".")[2], {"json": body.decode()}
    given = dict(urllib.parse.parse_qsl(body.decode()))
    return given.get("Action", ""), given
