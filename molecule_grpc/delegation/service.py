"""DelegationService: every RPC and the use case that serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

from google.api import httpbody_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.delegation.v1 import activity_pb2, delegation_pb2, delegation_service_pb2, event_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1.delegation_service_handlers import DelegationServiceHandlers

from molecule_grpc.delegation.conversion import inbox as of_inbox
from molecule_grpc.delegation.conversion import ledger as of_ledger
from molecule_grpc.delegation.conversion import outbound as of_outbound
from molecule_grpc.delegation.conversion import record as of_record
from molecule_grpc.delegation.inbox.inbox import DEFAULT_PULL, Inbox
from molecule_grpc.delegation.inbox.streams import InboxStreams
from molecule_grpc.delegation.ledger.rules import FINAL
from molecule_grpc.delegation.ledger.wiring import Ledger
from molecule_grpc.delegation.outbound.wiring import Outbound
from molecule_grpc.delegation.ports import Mcp
from molecule_grpc.delegation.record.activity import DEFAULT_HITS, ActivityRecord
from molecule_grpc.delegation.record.session_search import SessionSearch
from molecule_grpc.events.service import EventsService
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import with_end

_OK = 200


class DelegationService:
    """Serves `moleculeai.delegation.v1.DelegationService`."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        activity: ActivityRecord,
        outbound: Outbound,
        inbox: Inbox,
        inbox_streams: InboxStreams,
        answer_heartbeat: of_inbox.AnswerHeartbeat,
        events: EventsService,
        mcp: Mcp,
        session: SessionSearch,
    ) -> None:
        self._handovers = ledger.handovers
        self._moves = ledger.moves
        self._views = ledger.views
        self._watch = ledger.watch
        self._activity = activity
        self._messages = outbound.messages
        self._queue_queries = outbound.queue_queries
        self._inbox = inbox
        self._inbox_streams = inbox_streams
        self._answer_heartbeat = answer_heartbeat
        self._events = events
        self._mcp = mcp
        self._session = session

    async def Delegate(self, request: pb.DelegateRequest, call: Call) -> pb.DelegateResponse:
        handover = of_ledger.handover_of(request, call.remaining())
        done = await self._handovers.delegate(handover, authorization=call.authorization)
        response = of_ledger.delegate_response(handover, done)
        if done.earlier or response.status in FINAL:
            call.set_http_status(200)
        return response

    async def RecordDelegation(
        self, request: pb.RecordDelegationRequest, call: Call
    ) -> pb.RecordDelegationResponse:
        stored_id = await self._handovers.record(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.target_id, "target_id"),
            request.task,
            request.delegation_id,
        )
        return pb.RecordDelegationResponse(delegation_id=stored_id, status="recorded")

    async def UpdateDelegation(
        self, request: pb.UpdateDelegationRequest, call: Call
    ) -> pb.UpdateDelegationResponse:
        result = await self._moves.update(
            parse_id(request.workspace_id, "workspace_id"),
            request.delegation_id,
            of_ledger.status_of(request.status),
            text=request.response_preview,
            error=request.error,
        )
        return pb.UpdateDelegationResponse(
            status=of_ledger.status_value(result.status),
            delegation_id=request.delegation_id,
            applied=result.applied,
        )

    async def HeartbeatDelegation(
        self, request: pb.HeartbeatDelegationRequest, call: Call
    ) -> pb.HeartbeatDelegationResponse:
        result = await self._moves.heartbeat(
            parse_id(request.workspace_id, "workspace_id"),
            request.delegation_id,
            note=request.note if request.HasField("note") else None,
            percent=request.percent if request.HasField("percent") else None,
        )
        return pb.HeartbeatDelegationResponse(
            status=of_ledger.status_value(result.status),
            delegation_id=request.delegation_id,
            applied=result.applied,
        )

    async def CancelDelegation(
        self, request: pb.CancelDelegationRequest, call: Call
    ) -> pb.CancelDelegationResponse:
        result = await self._moves.cancel(
            parse_id(request.workspace_id, "workspace_id"),
            request.delegation_id,
            reason=request.reason,
        )
        return pb.CancelDelegationResponse(
            status=of_ledger.status_value(result.status),
            delegation_id=request.delegation_id,
            applied=result.applied,
        )

    async def WatchDelegation(
        self, request: pb.WatchDelegationRequest, call: Call
    ) -> AsyncIterator[pb.WatchDelegationResponse]:
        viewer = parse_id(request.workspace_id, "workspace_id")
        states = self._watch.watch(viewer, request.delegation_id, authorization=call.authorization)
        shown = of_ledger.watch_frames(states, viewer)
        async with aclosing(with_end(shown, of_ledger.watch_end)) as frames:
            async for frame in frames:
                yield frame

    async def GetDelegation(
        self, request: pb.GetDelegationRequest, call: Call
    ) -> delegation_pb2.Delegation:
        viewer = parse_id(request.workspace_id, "workspace_id")
        row = await self._views.get(viewer, request.delegation_id)
        return of_ledger.delegation(row, viewer, whole=True)

    async def ListDelegations(
        self, request: pb.ListDelegationsRequest, call: Call
    ) -> pb.ListDelegationsResponse:
        viewer = parse_id(request.workspace_id, "workspace_id")
        page = await self._views.list(
            viewer,
            limit=request.limit,
            status=request.status or None,
            direction=request.direction or None,
            page_token=request.page_token,
        )
        if page.next_page_token:
            call.headers["x-next-page-token"] = page.next_page_token
        return pb.ListDelegationsResponse(
            delegations=await of_ledger.delegations(page.rows, viewer)
        )

    async def SendMessage(
        self, request: pb.SendMessageRequest, call: Call
    ) -> httpbody_pb2.HttpBody:
        message = of_outbound.message_of(request, call)
        answer = await self._messages.send(message, call.principal)
        return of_outbound.http_body(answer, call)

    async def GetQueuedMessage(
        self, request: pb.GetQueuedMessageRequest, call: Call
    ) -> pb.QueuedMessage:
        row = await self._queue_queries.get(
            parse_id(request.workspace_id, "workspace_id"),
            parse_id(request.queue_id, "queue_id"),
            call.principal,
            claimed_source=of_outbound.claimed_source(call),
        )
        return await of_outbound.queued_message(row, call)

    async def ListActivity(
        self, request: pb.ListActivityRequest, call: Call
    ) -> pb.ListActivityResponse:
        page = await self._activity.list(of_record.activity_query(request, call))
        listed = await of_record.activities(page.rows, call)
        if page.more or listed.more:
            last = page.rows[len(listed.rows) - 1]
            call.headers["x-next-page-token"] = self._activity.token_after(page, last)
        return pb.ListActivityResponse(activities=listed.rows)

    async def GetActivity(
        self, request: pb.GetActivityRequest, call: Call
    ) -> activity_pb2.Activity:
        row = await self._activity.get(UUID(request.workspace_id), UUID(request.activity_id))
        return await of_record.activity(row, call)

    async def ReportActivity(
        self, request: pb.ReportActivityRequest, call: Call
    ) -> pb.ReportActivityResponse:
        await self._activity.report(await of_record.report(request, call))
        return pb.ReportActivityResponse(status="logged")

    async def Notify(self, request: pb.NotifyRequest, call: Call) -> pb.NotifyResponse:
        files = [of_record.attachment(each) for each in request.attachments]
        await self._activity.notify(UUID(request.workspace_id), request.message, files)
        return pb.NotifyResponse(status="sent")

    async def SubscribeInbox(
        self, requests: AsyncIterator[pb.SubscribeInboxRequest], call: Call
    ) -> AsyncIterator[pb.SubscribeInboxResponse]:
        hello = of_inbox.hello(await anext(requests))
        client_frames = of_inbox.client_frames(requests, hello.workspace_id, self._answer_heartbeat)
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
        page = await self._session.find(
            UUID(request.workspace_id),
            request.q,
            limit=request.limit or DEFAULT_HITS,
            page_token=request.page_token,
        )
        shown = await of_record.session_hits(page, call)
        if shown.last is not None:
            call.headers["x-next-page-token"] = self._session.token_after(shown.last)
        return pb.SearchSessionResponse(hits=shown.messages)

    async def PullInbox(self, request: pb.PullInboxRequest, call: Call) -> pb.PullInboxResponse:
        found = await self._inbox.pull(
            UUID(request.workspace_id),
            after_seq=request.after_seq if request.HasField("after_seq") else None,
            generation=request.generation,
            limit=request.limit or DEFAULT_PULL,
            wait_seconds=call.wait_limit(request.wait_seconds),
            authorization=call.authorization,
        )
        return await of_inbox.pulled(found)

    async def AckInbox(self, request: pb.AckInboxRequest, call: Call) -> pb.AckInboxResponse:
        done = await self._inbox.ack(
            UUID(request.workspace_id),
            up_to=request.up_to_seq,
            seqs=request.seqs,
            activity_ids=[UUID(text) for text in request.activity_ids],
            epoch=request.session_epoch if request.HasField("session_epoch") else None,
            generation=request.generation,
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
            generation=request.generation,
        )
        return pb.NackInboxResponse(
            seq=request.seq, deliveries=nacked.deliveries, poisoned=nacked.poisoned
        )

    async def CallMcp(self, request: pb.CallMcpRequest, call: Call) -> httpbody_pb2.HttpBody:
        answer = await self._mcp.call(UUID(request.workspace_id), request.body.data, call)
        if answer.status != _OK:
            call.set_http_status(answer.status)
        return httpbody_pb2.HttpBody(content_type="application/json", data=answer.body)

    async def StreamMcp(
        self, request: pb.StreamMcpRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        async for event in self._mcp.stream(UUID(request.workspace_id), call):
            yield httpbody_pb2.HttpBody(content_type="text/event-stream", data=event.encode())


def handlers(service: DelegationServiceHandlers) -> tuple[ServiceDescriptor, object]:
    """The service with its descriptor. An RPC without a handler is a type error here."""
    return delegation_service_pb2.DESCRIPTOR.services_by_name["DelegationService"], service
