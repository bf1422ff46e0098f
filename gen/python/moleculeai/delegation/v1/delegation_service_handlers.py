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
        """Delegate hands a task to another workspace. Ledger row, activity row and the target's inbox item
        are committed before the response.

        Repeating a call with the same `idempotency_key` and content within 24 h returns the first
        delegation with `idempotent_hit`; other content fails with IDEMPOTENCY_MISMATCH. The key of a
        failed delegation is free again. Fails with WORKSPACE_NOT_FOUND, NOT_RELATED,
        SELF_DELEGATION, INBOX_FULL or QUOTA_EXCEEDED.
        """
        ...

    async def RecordDelegation(
        self,
        request: delegation_service_pb2.RecordDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.RecordDelegationResponse:
        """RecordDelegation adds a task to the ledger that the agent delivered without the platform.
        Repeating a call with the same id succeeds and changes nothing; an id used by another caller of
        the organisation fails with DELEGATION_ID_TAKEN.
        """
        ...

    async def UpdateDelegation(
        self,
        request: delegation_service_pb2.UpdateDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.UpdateDelegationResponse:
        """UpdateDelegation reports progress or the outcome, by the target or the source. The first final
        report wins and puts exactly one item into the source's inbox; a later, different report answers
        `applied: false` and changes nothing. Repeating a call is harmless. A failure with attempts left
        starts the next attempt after the backoff; further failures reported before that are ignored.
        """
        ...

    async def HeartbeatDelegation(
        self,
        request: delegation_service_pb2.HeartbeatDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.HeartbeatDelegationResponse:
        """HeartbeatDelegation signals work on a delegation, by the target or the source. The first
        heartbeat moves the delegation to in_progress. On an ended delegation nothing changes and the
        response says `applied: false`.
        """
        ...

    async def CancelDelegation(
        self,
        request: delegation_service_pb2.CancelDelegationRequest,
        call: Call,
    ) -> delegation_service_pb2.CancelDelegationResponse:
        """CancelDelegation cancels a delegation, by its source: the delegation ends as failed with reason
        `cancelled`, both inboxes get an item, and a call in progress to the target's URL is aborted.
        Repeating a call is harmless. On an ended delegation nothing changes and the response says
        `applied: false`.
        """
        ...

    def WatchDelegation(
        self,
        request: delegation_service_pb2.WatchDelegationRequest,
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.WatchDelegationResponse]:
        """WatchDelegation sends the delegation's current state, and the new state after each change, until
        the delegation ends; the last frame is an End. Reconnecting begins with the current state:
        intermediate states may be missed, the final state never.
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
        """ListDelegations lists a workspace's delegations, newest first. If there are more, the response
        header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def SendMessage(
        self,
        request: delegation_service_pb2.SendMessageRequest,
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """SendMessage sends an A2A message to a workspace: JSON-RPC 2.0, or bare `{method, params}`.
        The source is the caller's workspace, or the human if an operator calls.

        For a workspace in poll mode the response is `{"status":"queued","delivery_mode":"poll",
        "method":...}` once the inbox item is committed. A repeat with the same `messageId` adds nothing.

        A workspace in push mode is called at its URL; the response is the agent's JSON with the agent's
        HTTP status (for gRPC in the header `x-agent-status`). If the agent is busy the message is
        queued: `{"queued":true,"queue_id","queue_depth","message"}` (202); GetQueuedMessage returns the
        message's further status. If the caller's time limit ends first (the deadline of the call, the
        header `x-timeout` in seconds, 90 s for humans) the response is
        `{"status":"queued","delivery_mode":"push-async","method","queue_id"}`. A message already in the
        queue is not queued twice. Fails with URL_NOT_REGISTERED, URL_NOT_ROUTABLE, AGENT_UNREACHABLE,
        AGENT_BUSY, AGENT_RESTARTING, WORKSPACE_WAKING, BUDGET_EXCEEDED, or ANSWER_UNREADABLE: delivered,
        do not send again.
        """
        ...

    async def GetQueuedMessage(
        self,
        request: delegation_service_pb2.GetQueuedMessageRequest,
        call: Call,
    ) -> delegation_service_pb2.QueuedMessage:
        """GetQueuedMessage returns the status of a queued message, to its sender and its target. Other
        callers get MESSAGE_NOT_FOUND.
        """
        ...

    async def ListActivity(
        self,
        request: delegation_service_pb2.ListActivityRequest,
        call: Call,
    ) -> delegation_service_pb2.ListActivityResponse:
        """ListActivity reads a workspace's record: newest first, or with `since_id` the rows after that
        row, oldest first. A poller's first call, with the workspace's token for `a2a_receive` and without
        another filter, begins with the oldest row, too: its last row is the next `since_id`. If there are
        more, the response header `x-next-page-token` carries the token of the next page. Fails with
        CURSOR_PRUNED (410) if `since_id` is no row of this workspace: start again without `since_id`.
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
        """ReportActivity adds a row to the caller's own record. The row never becomes an inbox item."""
        ...

    async def Notify(
        self,
        request: delegation_service_pb2.NotifyRequest,
        call: Call,
    ) -> delegation_service_pb2.NotifyResponse:
        """Notify sends a message of an agent to the human. The message enters the agent's record and never
        its inbox.
        """
        ...

    def SubscribeInbox(
        self,
        requests: AsyncIterator[delegation_service_pb2.SubscribeInboxRequest],
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.SubscribeInboxResponse]:
        """SubscribeInbox opens a session as the inbox's only consumer: the server sends items as credit
        allows; the client sends acks, nacks and heartbeats. The first frame must be a Hello.

        A second consumer fails with INBOX_BUSY unless its Hello sets `takeover`; the old session then
        gets Fenced and its acks are refused. Items sent but not acked are sent again in the next
        session, marked by `delivery`.
        """
        ...

    def StreamInbox(
        self,
        request: delegation_service_pb2.StreamInboxRequest,
        call: Call,
    ) -> AsyncIterator[delegation_service_pb2.StreamInboxResponse]:
        """StreamInbox reads the inbox without a lease: replay, then live items, until the client cancels.
        AckInbox marks items as done. Several streams may read one inbox.
        """
        ...

    def SubscribeEvents(
        self,
        request: event_pb2.SubscribeEventsRequest,
        call: Call,
    ) -> AsyncIterator[event_pb2.SubscribeEventsResponse]:
        """SubscribeEvents sends events in commit order: each kept event at least once, other events without
        a guarantee. Fails with CURSOR_PRUNED if `resume_after` is older than the retention, with
        CURSOR_UNKNOWN or CURSOR_AHEAD if the installation was restored from a backup since. The server
        buffers nothing for a slow client: events are read from the database when the client is ready.
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
        """SearchSession finds activity rows, and memories that the workspace can read, by a substring of their
        text, newest first: of the memory, or of the row's summary, its error, or a text of a body. An A2A body's texts are its text parts and the words and numbers in
        other parts; any other body's all its words and numbers. Names of JSON fields are no text. If there
        are more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def PullInbox(
        self,
        request: delegation_service_pb2.PullInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.PullInboxResponse:
        """PullInbox returns items not acked, oldest first, waiting up to `wait_seconds` for the first one.
        Fails with CURSOR_PRUNED, CURSOR_AHEAD or CURSOR_UNKNOWN if nothing can be read after `after_seq`.
        """
        ...

    async def AckInbox(
        self,
        request: delegation_service_pb2.AckInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.AckInboxResponse:
        """AckInbox marks items as done. Repeating a call is harmless. Fails with FENCED if `session_epoch`
        names a replaced session, with CURSOR_UNKNOWN if `generation` is not the inbox's, and with
        CURSOR_AHEAD if an item lies beyond the newest one; nothing is marked then.
        """
        ...

    async def NackInbox(
        self,
        request: delegation_service_pb2.NackInboxRequest,
        call: Call,
    ) -> delegation_service_pb2.NackInboxResponse:
        """NackInbox returns an item for another delivery. A repeat counts as another failure."""
        ...

    async def CallMcp(
        self,
        request: delegation_service_pb2.CallMcpRequest,
        call: Call,
    ) -> httpbody_pb2.HttpBody:
        """CallMcp serves one message of the Model Context Protocol, or a batch: the workspace's tools for
        MCP clients (docs/mcp.md). There is no session, and each call may use any revision of MCP.

        A request gets its JSON-RPC response, also if a tool fails; notifications alone get 202 and no
        body; a body that is no JSON-RPC gets 400; a GET gets 405. Each worker accepts 120 messages a
        minute per token: the headers `x-ratelimit-limit`, `-remaining` and `-reset` report the rest, and
        further calls fail with RESOURCE_EXHAUSTED (429). Whether a call may be repeated depends on the
        tool.
        """
        ...

    def StreamMcp(
        self,
        request: delegation_service_pb2.StreamMcpRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """StreamMcp serves clients of MCP's older SSE transport: server-sent events, first `endpoint` with
        the path of CallMcp, then a comment every 15 s, last `end` with a canonical gRPC code, reason and
        message as JSON. Responses are sent on CallMcp, never on this stream.
        """
        ...
