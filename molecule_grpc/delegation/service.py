"""DelegationService: every RPC and the use case that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import activity_pb2, delegation_pb2, event_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1.delegation_service_handlers import DelegationServiceHandlers

from molecule_grpc.delegation.conversion import inbox as of_inbox
from molecule_grpc.delegation.conversion import record as of_record
from molecule_grpc.delegation.inbox.inbox import DEFAULT_PULL, Inbox
from molecule_grpc.delegation.inbox.streams import InboxStreams
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.watch import Watch
from molecule_grpc.delegation.outbound.messages import Messages
from molecule_grpc.delegation.outbound.queue_queries import QueueQueries
from molecule_grpc.delegation.ports import Mcp
from molecule_grpc.delegation.record.activity import DEFAULT_HITS, ActivityRecord
from molecule_grpc.events.service import EventsService
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import with_end


class DelegationService:
    """Serves `moleculeai.delegation.v1.DelegationService`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        activity: ActivityRecord,
        messages: Messages,
        queue_queries: QueueQueries,
        inbox: Inbox,
        inbox_streams: InboxStreams,
        heartbeat: of_inbox.Heartbeat,
        watch: Watch,
        events: EventsService,
        mcp: Mcp,
    ) -> None:
        self._ledger = ledger
        self._activity = activity
        self._messages = messages
        self._desk = queue_queries
        self._inbox = inbox
        self._inbox_streams = inbox_streams
        self._heartbeat = heartbeat
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
        rows = await self._activity.list(of_record.activity_query(request))
        return pb.ListActivityResponse(activities=[of_record.activity(row) for row in rows])

    async def GetActivity(
        self, request: pb.GetActivityRequest, call: Call
    ) -> activity_pb2.Activity:
        row = await self._activity.get(UUID(request.workspace_id), UUID(request.activity_id))
        return of_record.activity(row)

    async def ReportActivity(
        self, request: pb.ReportActivityRequest, call: Call
    ) -> pb.ReportActivityResponse:
        await self._activity.report(of_record.report(request))
        return pb.ReportActivityResponse(status="logged")

    async def Notify(self, request: pb.NotifyRequest, call: Call) -> pb.NotifyResponse:
        files = [of_record.attachment(each) for each in request.attachments]
        await self._activity.notify(UUID(request.workspace_id), request.message, files)
        return pb.NotifyResponse(status="sent")

    async def SubscribeInbox(
        self, requests: AsyncIterator[pb.SubscribeInboxRequest], call: Call
    ) -> AsyncIterator[pb.SubscribeInboxResponse]:
        hello = of_inbox.hello(await anext(requests))
        client_frames = of_inbox.client_frames(requests, hello.workspace_id, self._heartbeat)
        stream = self._inbox_streams.consume(hello, client_frames, authorization=call.authorization)
        responses = of_inbox.InboxResponses(pb.SubscribeInboxResponse)
        async with aclosing(with_end(responses.of(stream), responses.end)) as frames:
            async for frame in frames:
                yield frame

    def StreamInbox(
        self, request: pb.StreamInboxRequest, call: Call
    ) -> AsyncIterator[pb.StreamInboxResponse]:
        stream = self._inbox_streams.read(
            UUID(request.workspace_id),
            of_inbox.start_position(request.start),
            max_in_flight=request.max_in_flight or None,
            authorization=call.authorization,
        )
        responses = of_inbox.InboxResponses(pb.StreamInboxResponse)
        return with_end(responses.of(stream), responses.end)

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
        rows = await self._activity.search(
            UUID(request.workspace_id), request.q, limit=request.limit or DEFAULT_HITS
        )
        return pb.SearchSessionResponse(hits=[of_record.session_hit(row) for row in rows])

    async def PullInbox(self, request: pb.PullInboxRequest, call: Call) -> pb.PullInboxResponse:
        left = call.remaining()
        found = await self._inbox.pull(
            UUID(request.workspace_id),
            after_seq=request.after_seq if request.HasField("after_seq") else None,
            limit=request.limit or DEFAULT_PULL,
            wait_seconds=request.wait_seconds if left is None else min(request.wait_seconds, left),
            authorization=call.authorization,
        )
        return of_inbox.pulled(found)

    async def AckInbox(self, request: pb.AckInboxRequest, call: Call) -> pb.AckInboxResponse:
        done = await self._inbox.ack(
            UUID(request.workspace_id),
            up_to=request.up_to_seq,
            seqs=request.seqs,
            activity_ids=[UUID(text) for text in request.activity_ids],
            epoch=request.session_epoch if request.HasField("session_epoch") else None,
        )
        return pb.AckInboxResponse(
            acked_seq=done.acked_seq, head_seq=done.head_seq, removed=done.marked
        )

    async def NackInbox(self, request: pb.NackInboxRequest, call: Call) -> pb.NackInboxResponse:
        nacked = await self._inbox.nack(
            UUID(request.workspace_id),
            request.seq,
            delay=of_inbox.retry_delay(request),
            reason=request.reason,
            epoch=request.session_epoch if request.HasField("session_epoch") else None,
        )
        return pb.NackInboxResponse(
            seq=request.seq, deliveries=nacked.deliveries, poisoned=nacked.poisoned
        )

    async def CallMcp(self, request: pb.CallMcpRequest, call: Call) -> httpbody_pb2.HttpBody:
        return await self._mcp.call(request, call)

    def StreamMcp(
        self, request: pb.StreamMcpRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        return self._mcp.stream(request, call)


def _serves_every_rpc(service: DelegationService) -> DelegationServiceHandlers:
    """A missing handler is a type error here."""
    return service
