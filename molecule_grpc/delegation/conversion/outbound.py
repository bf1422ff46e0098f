"""The RPCs of messages to agents: requests to values, and values to responses."""

from __future__ import annotations

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.delegation.conversion.bodies import put_body
from molecule_grpc.delegation.outbound.answers import Answer
from molecule_grpc.delegation.outbound.messages import PASSED_ON, Message
from molecule_grpc.delegation.outbound.rules import QueueStatus
from molecule_grpc.delegation.outbound.store.queue import QueueEntry
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.server.call import Call


def claimed_source(call: Call) -> str:
    """The workspace that a REST caller says speaks: its header; empty without one."""
    return call.caller


def message_of(request: pb.SendMessageRequest, call: Call) -> Message:
    """The message that a call hands in. `source_id` counts before the header."""
    metadata = call.metadata
    return Message(
        target=parse_id(request.workspace_id, "workspace_id"),
        claimed_source=request.source_id or claimed_source(call),
        body=request.body.data,
        authorization=call.authorization,
        stated_wait=metadata.get("x-timeout", ""),
        remaining=call.remaining(),
        headers={name: metadata[name] for name in PASSED_ON if name in metadata},
    )


def http_body(answer: Answer, call: Call) -> httpbody_pb2.HttpBody:
    """An answer as the response; status and headers go to the call."""
    call.headers.update(answer.headers)
    if answer.http_status is not None:
        call.set_http_status(answer.http_status)
    return httpbody_pb2.HttpBody(content_type="application/json", data=answer.body)


async def queued_message(row: QueueEntry, call: Call) -> pb.QueuedMessage:
    """A message in the queue, as its sender sees it."""
    message = pb.QueuedMessage(
        queue_id=str(row.id),
        workspace_id=str(row.workspace_id),
        status=pb.QueuedMessage.Status.Value(row.status),
        priority=row.priority,
        attempts=row.attempts,
        last_error=row.last_error,
        enqueued_at=timestamp(row.enqueued_at),
        dispatched_at=timestamp(row.dispatched_at),
        completed_at=timestamp(row.completed_at),
        expires_at=timestamp(row.expires_at),
    )
    await put_body(message, "response_body", row.response_body, call, Slices())
    if row.status == QueueStatus.QUEUED:
        message.next_attempt_at.FromDatetime(row.next_attempt_at)
    return message
