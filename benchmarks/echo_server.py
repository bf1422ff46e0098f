"""The floor: a grpc.aio server with our options that gives back what it gets."""

from __future__ import annotations

import argparse
from typing import Any

import grpc
import uvloop

from molecule_grpc.server.grpc_host import OPTIONS

PATH = "bench.Echo/Call"


async def serve(address: str) -> None:
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
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    uvloop.run(serve(parser.parse_args().address))
