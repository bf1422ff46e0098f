"""Makes an entry of the audit log of a call that has ended: who, what, of what, from where."""

from __future__ import annotations

from datetime import UTC, datetime
from operator import attrgetter
from uuid import UUID

from google.protobuf.message import Message

from molecule_grpc.auth.audit_store import AuditEntry
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.strangers import client_address
from molecule_grpc.auth.tokens import PREFIX_LENGTH
from molecule_grpc.kernel.ids import as_id, new_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import Code

_MAX_SUBJECT = 200
_MAX_ADDRESS = 64
_MAX_REQUEST_ID = 128
# Fields by which requests name something beside a workspace, the most telling one first.
_SUBJECTS = (
    "token_id", "delegation_id", "upload_id", "queue_id", "slug", "organization_id", "target_id",
)  # fmt: skip


def entry_of(
    path: str,
    policy: Policy,
    request: Message | None,
    call: Call,
    code: Code,
    reason: str,
    response: Message | None,
) -> AuditEntry:
    """The entry of a call.

    Args:
        request: the first one of a stream; None if none came.
        response: None for a failure and for a stream.
    """
    principal = call.principal
    service, _, name = path.rpartition("/")
    return AuditEntry(
        id=new_id(),
        at=datetime.now(UTC),
        party=principal.role.value,
        token_prefix=principal.prefix,
        organization_id=principal.organization_id or _organization(call, request, response),
        workspace_id=_workspace(policy, request) or _made_workspace(name, response),
        rpc=f"{service.rpartition('.')[2]}/{name}",
        subject=minted(response) or _subject(request),
        outcome=code.name,
        reason=reason if code is not Code.OK else "",
        address=client_address(call.metadata)[:_MAX_ADDRESS],
        request_id=clean(call.request_id)[:_MAX_REQUEST_ID],
        calls=1,
    )


def minted(response: Message | None) -> str:
    """The token that an answer brings: its id, or its beginning where the answer has no id."""
    token = getattr(response, "auth_token", "")
    if token:
        return getattr(response, "id", "") or token[:PREFIX_LENGTH]
    connected: str = getattr(getattr(response, "connection", None), "auth_token", "")
    return connected[:PREFIX_LENGTH]


def _organization(call: Call, request: Message | None, response: Message | None) -> UUID | None:
    """The organisation that a call of the operator names, or that its handler has told of."""
    if call.organization_id is not None:
        return call.organization_id
    for message in (response, request):
        if (found := as_id(getattr(message, "organization_id", ""))) is not None:
            return found
    return None


def _workspace(policy: Policy, request: Message | None) -> UUID | None:
    """The workspace that a request names, which need not exist or be well-formed."""
    try:
        return as_id(attrgetter(policy.workspace or "workspace_id")(request))
    except AttributeError:
        return None


def _made_workspace(name: str, response: Message | None) -> UUID | None:
    return as_id(getattr(response, "id", "")) if name == "CreateWorkspace" else None


def _subject(request: Message | None) -> str:
    for name in _SUBJECTS:
        text = getattr(request, name, "")
        if text and isinstance(text, str):
            return clean(text)[:_MAX_SUBJECT]
    return ""
