"""Calls of Amazon: boto3 blocks, so its calls run in a few threads, one attempt of each at a time.

A caller that is cancelled leaves at once. Its thread goes on until the attempt has ended, which is
at most 10 s later.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from molecule_grpc.backends.contract.failures import FailureReason
from molecule_grpc.backends.ec2.failures import failure_of
from molecule_grpc.backends.ec2.tags import Json
from molecule_grpc.backends.pacing import bounded
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.settings.ec2 import Ec2Settings

_CONNECT_SECONDS: Final = 3
# Attempts of a call that is throttled, with pauses of up to 0.5, 1 and 2 s between them.
_ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.5


class Call(Protocol):
    """A method of a client of boto3."""

    def __call__(self, **given: Any) -> Json: ...


class Calls:
    """Clients of EC2 and of EC2 Instance Connect, made when they are first asked for."""

    def __init__(self, settings: Ec2Settings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="ec2")
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()

    async def ec2(self, method: str, **given: Any) -> Json:
        """Call a method of EC2, again while EC2 asks to slow down.

        Raises:
            ClientError: EC2 does not know the machine, or the machine's state forbids the call.
            BackendFailure: anything else.
        """
        return await self._patiently("ec2", self._settings.endpoint, method, given)

    async def instance_connect(self, method: str, **given: Any) -> Json:
        """The same for EC2 Instance Connect."""
        endpoint = self._settings.connect_endpoint
        return await self._patiently("ec2-instance-connect", endpoint, method, given)

    async def pages(self, method: str, key: str, **given: Any) -> list[Json]:
        """What a list of EC2 has on all its pages, under a key of its answers."""
        found: list[Json] = []
        token: str | None = None
        while token is None or token:
            more = {"NextToken": token} if token else {}
            answer = await self.ec2(method, **given, **more)
            found += answer[key]
            token = answer.get("NextToken") or ""
        return found

    async def close(self) -> None:
        """Release the threads; attempts that are under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    async def _patiently(self, service: str, endpoint: str, method: str, given: Json) -> Json:
        require_no_connection("EC2")
        pause = _FIRST_PAUSE
        for left in reversed(range(_ATTEMPTS)):
            try:
                return await self._once(service, endpoint, method, given)
            except ClientError as error:
                failure = failure_of(error)
                if failure.reason is FailureReason.THROTTLED and left:
                    await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  (a pause)
                    pause *= 2
                    continue
                raise
            except BotoCoreError as error:
                raise failure_of(error) from error
        raise AssertionError("unreachable")

    async def _once(self, service: str, endpoint: str, method: str, given: Json) -> Json:
        client = await self._client(service, endpoint)
        call: Call = getattr(client, method)
        return await self._in_thread(call, **given)

    async def _in_thread(self, call: Call, **given: Any) -> Json:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, functools.partial(call, **given))

    async def _client(self, service: str, endpoint: str) -> Any:
        # boto3 reads megabytes of JSON to make a client, and may make only one at a time.
        async with self._making:
            if service not in self._clients:
                loop = asyncio.get_running_loop()
                make = functools.partial(self._make, service, endpoint)
                self._clients[service] = await loop.run_in_executor(self._threads, make)
        return self._clients[service]

    def _make(self, service: str, endpoint: str) -> Any:
        settings = self._settings
        connect = min(_CONNECT_SECONDS, settings.call_timeout / 2)
        config = Config(
            connect_timeout=connect,
            read_timeout=settings.call_timeout - connect,
            # Attempts are repeated by their caller, who can be cancelled between them.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=settings.threads,
        )
        session = boto3.session.Session()
        return session.client(
            service,  # type: ignore[call-overload]
            endpoint_url=endpoint or None,
            region_name=settings.region,
            config=config,
        )


@contextlib.asynccontextmanager
async def calling(deadline: float | None) -> AsyncIterator[None]:
    """Bound a call of the backend, and translate how Amazon fails.

    Raises:
        BackendFailure: `timeout` after `deadline` seconds; whatever else Amazon's error means.
    """
    try:
        async with bounded(deadline, "EC2 did not get there in time"):
            yield
    except ClientError as error:
        raise failure_of(error) from error
