"""The floor: a grpc.aio server with the product's options that echoes the request's bytes.

With `--follow` gRPC's poller shares the event loop's core, as in the product.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import grpc
import uvloop

from molecule_grpc.server.hosts.grpc_aio import OPTIONS
from molecule_grpc.server.hosts.scheduling import poller_affinity

PATH = "bench.Echo/Call"


async def serve(address: str, *, follow: bool) -> None:
    """Serve until killed."""

    async def call(data: bytes, _context: object) -> bytes:
        return data

    server = grpc.aio.server(options=OPTIONS)
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Call": grpc.unary_unary_rpc_method_handler(call)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    server.add_insecure_port(address)
    await server.start()
    async with asyncio.TaskGroup() as group:
        if follow:
            group.create_task(poller_affinity().run())
        await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--follow", action="store_true")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.address, follow=arguments.follow))
