"""`molecule-grpc token`: mints, lists and revokes tokens of workspaces and organisations."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace
from molecule_grpc.cli.workspaces import Name

ReadOnly = Annotated[bool, typer.Option("--read-only", help="It may change nothing.")]
Ttl = Annotated[int, typer.Option(min=0, help="Seconds until it ends; 0 for never.")]

app = typer.Typer(no_args_is_help=True, help="Tokens of workspaces and organisations.")

TokenId = Annotated[str, typer.Argument(help="Id of the token, not the secret.")]


@app.command("create")
@asynchronous
async def create(
    context: typer.Context, workspace: Name, read_only: ReadOnly = False, ttl: Ttl = 0
) -> None:
    """Mint a workspace's token. The secret is shown once."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        created = await platform.create_token(
            await find_workspace(platform, workspace), read_only=read_only, ttl_seconds=ttl
        )
    cli.output.one(created, ("id", "auth_token", "read_only", "expires_at", "message"))


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context, workspace: Name) -> None:
    """List a workspace's live tokens, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = await platform.tokens(await find_workspace(platform, workspace))
    columns = ("id", "prefix", "read_only", "created_at", "last_used_at", "expires_at")
    cli.output.table(rows, columns, empty="no live token")


@app.command("revoke")
@asynchronous
async def revoke(context: typer.Context, workspace: Name, token_id: TokenId) -> None:
    """End a token at once, and the streams that it opened."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        await platform.revoke_token(await find_workspace(platform, workspace), token_id)
    cli.output.done(f"revoked {token_id}", status="revoked", id=token_id)


@app.command("org-create")
@asynchronous
async def org_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="For people.")] = "",
    org: Annotated[str, typer.Option(help="Id of the organisation; operators only.")] = "",
    read_only: ReadOnly = False,
    ttl: Ttl = 0,
) -> None:
    """Mint a token that administers an organisation. The secret is shown once."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        created = await platform.create_org_token(name, org, read_only=read_only, ttl_seconds=ttl)
    columns = ("id", "name", "organization_id", "auth_token", "read_only", "expires_at", "warning")
    cli.output.one(created, columns)


@app.command("org-ls")
@asynchronous
async def org_list(context: typer.Context) -> None:
    """List live tokens of organisations, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = await platform.org_tokens()
    columns = (
        "id", "prefix", "name", "organization_id", "created_by", "read_only", "last_used_at",
        "expires_at",
    )  # fmt: skip
    cli.output.table(rows, columns, empty="no live token")


@app.command("org-revoke")
@asynchronous
async def org_revoke(context: typer.Context, token_id: TokenId) -> None:
    """End an organisation's token at once."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        await platform.revoke_org_token(token_id)
    cli.output.done(f"revoked {token_id}", status="revoked", id=token_id)
