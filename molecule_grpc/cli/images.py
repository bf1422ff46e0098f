"""`molecule-grpc image`: what workspaces are started from."""

from __future__ import annotations

from typing import Annotated

import typer
from moleculeai.admin.v1 import image_pb2

from molecule_grpc.cli.context import Cli, asynchronous

app = typer.Typer(no_args_is_help=True, help="Images that workspaces are started from.")

_COLUMNS = ("runtime", "reference", "moving", "pinned_digest", "workspaces", "outdated")

Runtime = Annotated[str, typer.Argument(metavar="RUNTIME", help="Such as claude-code.")]


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context) -> None:
    """List the images of all runtimes, and how many workspaces run another one than the pin."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = await platform.images.list_all()
    cli.output.table(rows, _COLUMNS, empty="no runtime")


@app.command("pin")
@asynchronous
async def pin(
    context: typer.Context,
    runtime: Runtime,
    digest: Annotated[str, typer.Argument(help="sha256: and 64 hexadecimal digits.")],
) -> None:
    """Start a runtime's workspaces from one image from now on."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        _show(cli, await platform.images.pin(runtime, digest))


@app.command("unpin")
@asynchronous
async def unpin(context: typer.Context, runtime: Runtime) -> None:
    """Start them from what the image's name means."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        await platform.images.unpin(runtime)
    cli.output.done(f"unpinned {runtime}", runtime=runtime, status="unpinned")


@app.command("promote")
@asynchronous
async def promote(context: typer.Context, runtime: Runtime) -> None:
    """Pull what the image's name means now, and pin the runtime to that."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        with cli.output.waiting("pulling"):
            image = await platform.images.promote(runtime)
        _show(cli, image)


@app.command("rollback")
@asynchronous
async def rollback(
    context: typer.Context,
    runtime: Runtime,
    from_digest: Annotated[
        str, typer.Option("--from", help="Only if the runtime is pinned to this digest.")
    ] = "",
) -> None:
    """Pin a runtime to the image that it was pinned to before."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        _show(cli, await platform.images.roll_back(runtime, from_digest))


@app.command("refresh")
@asynchronous
async def refresh(
    context: typer.Context,
    runtime: Annotated[str, typer.Argument(metavar="[RUNTIME]", help="None for all.")] = "",
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Restart workspaces that run another image.")
    ] = False,
) -> None:
    """Pull images anew: of a pinned runtime the pinned one."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        with cli.output.waiting("pulling"):
            answer = await platform.images.refresh(runtime, recreate=recreate)
    cli.output.one(answer)


def _show(cli: Cli, image: image_pb2.WorkspaceImage) -> None:
    cli.output.one(image, ("runtime", "pinned_digest", "workspaces", "outdated"))
