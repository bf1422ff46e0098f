"""DelegationService: every RPC and the use case that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import activity_pb2, delegation_pb2, event_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.delegation.inbox.inbox import Inbox
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.watch import Watch
from molecule_grpc.delegation.outbound.messages import Messages
from molecule_grpc.delegation.outbound.queue_queries import QueueQueries
from molecule_grpc.delegation.ports import Mcp
from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.events.feed import Events
from molecule_grpc.server.call import Call


class DelegationService:
    """Serves `moleculeai.delegation.v1.DelegationService`."""

    def __init__(
        self,
        ledger: Ledger,
        activity: ActivityRecord,
        messages: Messages,
        queue_queries: QueueQueries,
        inbox: Inbox,
        watch: Watch,
        events: Events,
        mcp: Mcp,
    ) -> None:
        self._ledger = ledger
        self._activity = activity
        self._messages = messages
        self._desk = queue_queries
        self._inbox = inbox
        self._watch = watch
        self._events = events
        self._mcp = mcp

    async def Delegate(self, request: pb.DelegateRequest, call: Call) -> pb.DelegateResponse:
        return await self._ledger.delegate(request, call)

    async def RecordDelegation(
        self, request: pb.RecordDelegationRequest, call: Call
    ) -> pb.RecordDelegationResponse:
        return await self._ledger.record(request)

    async def UpdateDelegation(
        self, request: pb.UpdateDelegationRequest, call: Call
    ) -> pb.UpdateDelegationResponse:
        return await self._ledger.update(request)

    async def HeartbeatDelegation(
        self, request: pb.HeartbeatDelegationRequest, call: Call
    ) -> pb.HeartbeatDelegationResponse:
        return await self._ledger.heartbeat(request)

    async def CancelDelegation(
        self, request: pb.CancelDelegationRequest, call: Call
    ) -> pb.CancelDelegationResponse:
        return await self._ledger.cancel(request)

    def WatchDelegation(
        self, request: pb.WatchDelegationRequest, call: Call
    ) -> AsyncIterator[pb.WatchDelegationResponse]:
        return self._watch.watch(request, call)

    async def GetDelegation(
        self, request: pb.GetDelegationRequest, call: Call
    ) -> delegation_pb2.Delegation:
        return await self._ledger.get(request)

    async def ListDelegations(
        self, request: pb.ListDelegationsRequest, call: Call
    ) -> pb.ListDelegationsResponse:
        return await self._ledger.list(request, call)

    async def SendMessage(
        self, request: pb.SendMessageRequest, call: Call
    ) -> httpbody_pb2.HttpBody:
        return await self._messages.send(request, call)

    async def GetQueuedMessage(
        self, request: pb.GetQueuedMessageRequest, call: Call
    ) -> pb.QueuedMessage:
        return await self._desk.get(request, call)

    async def ListActivity(
        self, request: pb.ListActivityRequest, call: Call
    ) -> pb.ListActivityResponse:
        return await self._activity.list(request)

    async def GetActivity(
        self, request: pb.GetActivityRequest, call: Call
    ) -> activity_pb2.Activity:
        return await self._activity.get(request)

    async def ReportActivity(
        self, request: pb.ReportActivityRequest, call: Call
    ) -> pb.ReportActivityResponse:
        return await self._activity.report(request)

    async def Notify(self, request: pb.NotifyRequest, call: Call) -> pb.NotifyResponse:
        return await self._activity.notify(request)

    def SubscribeInbox(
        self, requests: AsyncIterator[pb.SubscribeInboxRequest], call: Call
    ) -> AsyncIterator[pb.SubscribeInboxResponse]:
        return self._inbox.subscribe(requests, call)

    def StreamInbox(
        self, request: pb.StreamInboxRequest, call: Call
    ) -> AsyncIterator[pb.StreamInboxResponse]:
        return self._inbox.stream(request, call)

    def SubscribeEvents(
        self, request: event_pb2.SubscribeEventsRequest, call: Call
    ) -> AsyncIterator[event_pb2.SubscribeEventsResponse]:
        return self._events.subscribe(request, call)

    def StreamEvents(
        self, request: event_pb2.StreamEventsRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        return self._events.stream(request, call)

    async def SearchSession(
        self, request: pb.SearchSessionRequest, call: Call
    ) -> pb.SearchSessionResponse:
        return await self._activity.search(request)

    async def PullInbox(self, request: pb.PullInboxRequest, call: Call) -> pb.PullInboxResponse:
        return await self._inbox.pull(request, call)

    async def AckInbox(self, request: pb.AckInboxRequest, call: Call) -> pb.AckInboxResponse:
        return await self._inbox.ack(request)

    async def NackInbox(self, request: pb.NackInboxRequest, call: Call) -> pb.NackInboxResponse:
        return await self._inbox.nack(request)

    async def CallMcp(self, request: pb.CallMcpRequest, call: Call) -> httpbody_pb2.HttpBody:
        return await self._mcp.call(request, call)

    def StreamMcp(
        self, request: pb.StreamMcpRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        return self._mcp.stream(request, call)
