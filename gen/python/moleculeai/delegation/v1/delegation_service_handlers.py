"""Generated from moleculeai/delegation/v1/delegation_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.api import httpbody_pb2
    from moleculeai.delegation.v1 import activity_pb2
    from moleculeai.delegation.v1 import delegation_pb2
    from moleculeai.delegation.v1 import delegation_service_pb2
    from moleculeai.delegation.v1 import event_pb2

    from molecule_grpc.server.call import Call


class DelegationServiceHandlers(Protocol):
    """DelegationService hands work from one workspace to another through a durable ledger, and gives
    every workspace an inbox: ordered, resumable, acknowledged.
    """

    async def Delegate(
        self,
        request: delegation_service_pb2.DelegateRequest,
        call: Call,
    ) -> delegation_service_pb2.DelegateResponse:
        """Delegate hands a task to another workspace. When it answers, ledger row, activity row and the
        target's inbox item are committed.

        Repeating a call with the same `idempotency_key` and content within 24 h returns the first
        delegation with `idempotent_hit`; with other content it fails with IDEMPOTENCY_MISMATCH. The
        key of a failed delegation is free again. Fails with WORKSPACE_NOT_FOUND, NOT_RELATED,
        SELF_DELEGATION or INBOX_FULL.
        """
        ...

    async def RecordDelegation(
        self,
        request: delegation_service_pb2.RecordDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.RecordDelegationResponse:
        """RecordDelegation enters into the ledger a task that the agent handed over by itself. The same
        id again by the same caller is success; by another of its organisation it fails with
        DELEGATION_ID_TAKEN.
        """
        ...

    async def UpdateDelegation(
        self,
        request: delegation_service_pb2.UpdateDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.UpdateDelegationResponse:
        """UpdateDelegation reports progress or the outcome, by the target or the source. The first final
        report wins and puts exactly one item into the source's inbox; a later, different one answers
        `applied: false` and changes nothing. Repeating a call is harmless: with attempts left a failure
        hands the task over again after the backoff, and until then no further one counts.
        """
        ...

    async def HeartbeatDelegation(
        self,
        request: delegation_service_pb2.HeartbeatDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.HeartbeatDelegationResponse:
        """HeartbeatDelegation is a sign of work on a delegation, by the target or the source. The first
        one moves it to in_progress. On a final one it changes nothing and answers `applied: false`.
        """
        ...

    async def CancelDelegation(
        self,
        request: delegation_service_pb2.CancelDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.CancelDelegationResponse:
        """CancelDelegation calls a delegation off, by its source. It ends as failed with reason
        `cancelled`; both inboxes hear of it, and a call to the target's URL is cut off. Repeating it is
        harmless; on one that has ended it changes nothing and answers `applied: false`.
        """
        ...

    def WatchDelegation(
        self,
        request: delegation_service_pb2.WatchDelegationRequest,
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.WatchDelegationResponse]:
        """WatchDelegation sends the delegation as it is, and again after every change, until it ends; the
        last frame is an End. Reconnecting starts with the present state: nothing is missed that lasts.
        """
        ...

    async def GetDelegation(
        self,
        request: delegation_service_pb2.GetDelegationRequest,
        call: Call,
    ) -> delegation_pb2.Delegation:
        """GetDelegation returns one delegation of which the workspace is source or target, with the
        whole result.
        """
        ...

    async def ListDelegations(
        self,
        request: delegation_service_pb2.ListDelegationsRequest,
        call: Call,
    ) -> delegation_service_pb2.ListDelegationsResponse:
        """ListDelegations lists a workspace's delegations, newest first. When there are more, the
        response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def SendMessage(
        self,
        request: delegation_service_pb2.SendMessageRequest,
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """SendMessage sends an A2A message to a workspace: JSON-RPC 2.0, or bare `{method, params}`.
        The source is the caller's workspace, or the human when an operator calls.

        For a workspace that reads its inbox it answers `{"status":"queued","delivery_mode":"poll",
        "method":...}` once the item is committed. A repeat with the same `messageId` adds nothing.

        A workspace with a URL is called, and its JSON is the answer, with its HTTP status (for gRPC in
        the header `x-agent-status`). When it is busy the message is queued: `{"queued":true,"queue_id",
        "queue_depth","message"}` (202); GetQueuedMessage tells what became of it. A caller whose
        patience ends first (the deadline of the call, the header `x-timeout` in seconds, 90 s for
        humans) gets `{"status":"queued","delivery_mode":"push-async","method","queue_id"}`. A message
        that waits already is not queued twice. Fails with URL_NOT_REGISTERED, URL_NOT_ROUTABLE,
        AGENT_UNREACHABLE, AGENT_BUSY, AGENT_RESTARTING, WORKSPACE_WAKING, BUDGET_EXCEEDED, or
        ANSWER_UNREADABLE when it was delivered and must not be sent again.
        """
        ...

    async def GetQueuedMessage(
        self,
        request: delegation_service_pb2.GetQueuedMessageRequest,
        call: Call,
    ) -> delegation_service_pb2.QueuedMessage:
        """GetQueuedMessage tells what became of a message that was queued, to its sender and its target;
        to others it does not exist.
        """
        ...

    async def ListActivity(
        self,
        request: delegation_service_pb2.ListActivityRequest,
        call: Call,
    ) -> delegation_service_pb2.ListActivityResponse:
        """ListActivity reads a workspace's record: newest first, or with `since_id` everything after
        that row, oldest first. A `since_id` that is not a row of this workspace fails with
        CURSOR_PRUNED (410): start again without it.
        """
        ...

    async def GetActivity(
        self,
        request: delegation_service_pb2.GetActivityRequest,
        call: Call,
    ) -> activity_pb2.Activity:
        """GetActivity returns one row of a workspace's record, for inbox items that carry a `body_ref`."""
        ...

    async def ReportActivity(
        self,
        request: delegation_service_pb2.ReportActivityRequest,
        call: Call,
    ) -> delegation_service_pb2.ReportActivityResponse:
        """ReportActivity adds a row to the caller's own record. It never becomes an inbox item."""
        ...

    async def Notify(
        self,
        request: delegation_service_pb2.NotifyRequest,
        call: Call,
    ) -> delegation_service_pb2.NotifyResponse:
        """Notify lets an agent speak to the human. It is recorded, and never comes back as inbox."""
        ...

    def SubscribeInbox(
        self,
        requests: AsyncIterator[delegation_service_pb2.SubscribeInboxRequest],
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.SubscribeInboxResponse]:
        """SubscribeInbox holds the inbox as its one consumer: items come as credit allows, acks and
        nacks go the other way, and heartbeats may ride along. The first frame must be a Hello.

        Another consumer fails with INBOX_BUSY unless it asks to take over; the old session then gets
        Fenced and its acks are refused. What was sent and not acked comes again in the next session,
        marked by `delivery`.
        """
        ...

    def StreamInbox(
        self,
        request: delegation_service_pb2.StreamInboxRequest,
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.StreamInboxResponse]:
        """StreamInbox reads the inbox without taking it: replay, then live, until the client leaves.
        Items are done by AckInbox. Several streams may read one inbox.
        """
        ...

    def SubscribeEvents(
        self,
        request: event_pb2.SubscribeEventsRequest,
        call: Call,
    ) -> AsyncIterator[event_pb2.SubscribeEventsResponse]:
        """SubscribeEvents sends what happens, in commit order: kept events each at least once, others as
        well as it can. A token that is older than the retention fails with CURSOR_PRUNED. A client that
        falls behind is not buffered for: it reads on from where it is.
        """
        ...

    def StreamEvents(
        self,
        request: event_pb2.StreamEventsRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """StreamEvents is SubscribeEvents for browsers: `text/event-stream` with `id:`, `event:` and
        `data:` lines and a `: ping` every 15 s. An EventSource resumes by itself.
        """
        ...

    async def SearchSession(
        self,
        request: delegation_service_pb2.SearchSessionRequest,
        call: Call,
    ) -> delegation_service_pb2.SearchSessionResponse:
        """SearchSession finds activity by a part of its text, newest first."""
        ...

    async def PullInbox(
        self,
        request: delegation_service_pb2.PullInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.PullInboxResponse:
        """PullInbox returns undone items, oldest first, waiting up to `wait_seconds` for the first."""
        ...

    async def AckInbox(
        self,
        request: delegation_service_pb2.AckInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.AckInboxResponse:
        """AckInbox marks items as done. Repeating it is harmless. With `session_epoch` of a replaced
        session it fails with FENCED.
        """
        ...

    async def NackInbox(
        self,
        request: delegation_service_pb2.NackInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.NackInboxResponse:
        """NackInbox gives an item back, to be delivered again. A repeat counts as another failure."""
        ...

    async def CallMcp(
        self,
        request: delegation_service_pb2.CallMcpRequest,
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """CallMcp serves a message of the Model Context Protocol, or a batch: the workspace's tools for an
        agent that speaks it (docs/mcp.md). It keeps no session, and any revision of the protocol may be
        spoken in any call.

        A request is answered with its response, also where a tool fails; notifications alone with 202
        and no body; what is no JSON-RPC with 400; a GET with 405. A token has 120 messages a minute at
        each worker: the headers `x-ratelimit-limit`, `-remaining` and `-reset` say what is left of them,
        and beyond them the call fails with RESOURCE_EXHAUSTED (429). Whether a repeat is harmless is the
        tool's affair.
        """
        ...

    def StreamMcp(
        self,
        request: delegation_service_pb2.StreamMcpRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """StreamMcp tells an older client where to send its messages: server-sent events, the first of
        them `endpoint` with the path of CallMcp, then a comment every 15 s. The last one is `end`, with
        a canonical code, reason and message as JSON. Answers never come this way.
        """
        ...
