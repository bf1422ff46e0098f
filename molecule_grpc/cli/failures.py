"""Reports failures: one line, the next step, and an exit code that scripts can branch on."""

from __future__ import annotations

from rich.markup import escape

from molecule_grpc.cli.context import UsageError
from molecule_grpc.cli.output import Output, visible
from molecule_grpc.client import errors

FAILED, USAGE, NOT_FOUND, REFUSED, UNAVAILABLE = 1, 2, 3, 4, 5

_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, USAGE),
    (errors.NotFound, NOT_FOUND),
    (errors.Unauthenticated, REFUSED),
    (errors.PermissionDenied, REFUSED),
    (errors.Unavailable, UNAVAILABLE),
    (errors.DeadlineExceeded, UNAVAILABLE),
)

_NEXT_STEPS = {
    "WORKSPACE_NOT_FOUND": "`molecule-grpc workspace ls` shows which there are",
    "WORKSPACE_NAME_TAKEN": "choose another name, or another --parent",
    "NOT_RELATED": "only parents, children and siblings may talk: "
    "`molecule-grpc workspace peers` shows whom this one reaches",
    "DELEGATION_NOT_FOUND": "`molecule-grpc delegation ls` shows which there are",
    "IDEMPOTENCY_MISMATCH": "use another --key for another task",
    "INBOX_BUSY": "look without --ack, or take it with --takeover",
    "INBOX_FULL": "its agent does not keep up: see `molecule-grpc inbox pull`",
    "TOO_MANY_TOKENS": "revoke one: `molecule-grpc token ls` shows them",
    "QUOTA_EXCEEDED": "`molecule-grpc quota` shows what is used; an operator may raise the limit",
    "DISK_LOW": "free space on the disk of the platform's data directory: "
    "`molecule-grpc doctor` there shows how much is needed",
    "NO_BACKEND": "the platform runs, and no backend that could do this: MOLECULE_BACKEND on its "
    "machine names one",
    "RUNTIME_UNKNOWN": "`molecule-grpc image ls` shows which there are",
    "IMAGE_UNAVAILABLE": "the platform runs, but its engine or the image's registry does not give "
    "the image: `molecule-grpc doctor backend` on the platform's machine asks the engine",
    "MEMORY_PLUGIN_UNAVAILABLE": "the platform runs, but the server at its MEMORY_PLUGIN_URL does "
    "not answer: `molecule-grpc doctor` on the platform's machine asks it",
    "DATABASE_UNAVAILABLE": "the platform runs, but its database does not answer: "
    "`molecule-grpc doctor` looks at it",
}


def report(error: Exception, output: Output, url: str) -> int:
    """Print the error and the next step to stderr; the exit code."""
    text = visible(str(error))
    reason = getattr(error, "reason", "")
    output.notes.print(f"[red]error:[/] {escape(text)}" + (f" [dim]({reason})[/]" * bool(reason)))
    for field, description in getattr(error, "violations", ()):
        output.note(f"  {field}: {description}")
    if step := _next_step(error, reason, url):
        output.note(f"  → {step}")
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def _next_step(error: Exception, reason: str, url: str) -> str:
    if reason in _NEXT_STEPS:
        return _NEXT_STEPS[reason]
    if isinstance(error, errors.Unauthenticated):
        return (
            "give --token, or set MOLECULE_TOKEN; "
            "`molecule-grpc up` wrote the operator's to admin_token in its data directory"
        )
    if isinstance(error, errors.Unimplemented | errors.NotFound) and not reason:
        # The edge, which knows no reasons, has no such path at this port.
        return (
            "where MOLECULE_OPERATOR_PORT is set, operators' commands go there: "
            "--url http://127.0.0.1:PORT on that machine"
        )
    if isinstance(error, errors.Unavailable | errors.DeadlineExceeded):
        step = f"is the platform running at {url}? `molecule-grpc up` starts one; --url names it"
        trust = ", --ca-file the authority of its certificate, --client-cert-file yours"
        return step + trust if url.startswith("https:") else step
    return ""
