"""Prints docs/events.md: every type of events, from the list in molecule_grpc/events/names.py.

python -m tools.events_doc > docs/events.md
"""

from __future__ import annotations

from molecule_grpc.events.names import EventType
from molecule_grpc.settings.retention import RetentionSettings

_PAGE = """\
# Events

<!-- Generated from molecule_grpc/events/names.py by tools/events_doc.py. -->

What happens in an organisation, as one feed for whoever watches: consoles, dashboards, auditors.
An agent that wants its work reads its inbox instead ([inbox.md](inbox.md)).

## Reading the feed

| Caller | How |
|---|---|
| gRPC | `DelegationService.SubscribeEvents` |
| REST, browser | `GET /events/stream`, `GET /workspaces/{{id}}/events/stream` (SSE) |
| Admin | `GET /events`, `GET /events/{{id}}`: kept events, newest first, in pages |

A page of the list has 100 events (`limit`, up to 500); `x-next-page-token` goes on as `page_token`.

- **Who sees what.** A workspace's token sees its own events; an organisation's token those of the
  organisation; the operator's all. `workspace_id` and `types` narrow that down. A workspace of
  another organisation reads like one that does not exist (`WORKSPACE_NOT_FOUND`).
- **Order.** Events come in the order of their transactions, those of one transaction in the order
  in which they were written; kept and live ones share one sequence. An event waits for every older
  transaction to end, which takes milliseconds unless one of them hangs.
- **Silence.** A stream without events sends a beat every 15 s (`MOLECULE_INBOX_BEAT_SECONDS`). Over
  SSE it is the comment `: ping`.
- **The end.** `drain` asks the client to come back at once: the server stops, or the stream is an
  hour old (`MOLECULE_INBOX_MAX_AGE_SECONDS`). Whenever the server ends a stream, the last frame,
  `end`, says why; over SSE it is an event of that name. A client that takes nothing for 60 s loses
  the stream (`SLOW_CONSUMER`).

An event over SSE:

```
id: 731.42.1767225600
event: WORKSPACE_MOVED
data: {{"type":"WORKSPACE_MOVED","event":"WORKSPACE_MOVED","workspace_id":"…",…,"data":…}}
```

## Resuming

Each event and each beat of a stream carries a `resume_token`; over SSE an event's is its `id:`, and
beats have none. Hand the last one back as `resume_after` (a browser does so by itself, in
`Last-Event-ID`), and the feed goes on behind it: no kept event is skipped, and none comes twice.
Tokens are opaque and good for {kept_days} days; an older one is
refused with `CURSOR_PRUNED` (410): list anew what you need, and start without a token. Do the same
after `CURSOR_UNKNOWN` and `CURSOR_AHEAD` (410): the installation was restored from a backup, and
what came before the token may never have happened. Without a token the feed begins now.

## What is kept, and for how long

| | Stored | Read for | When Postgres crashes |
|---|---|---|---|
| kept | with the change that it tells of, or not at all | {kept_days} days | it survives |
| live | when it happens, in an unlogged table | {live_minutes} minutes | it is lost |

A live event is for readers of the moment and may be missed. TASK_UPDATED, WORKSPACE_HEARTBEAT and
ACTIVITY_LOGGED are written only while a client of some worker reads the feed.

## Limits

- At most 64 `types` in a request.
- The server holds at most one page for a client that reads slowly: 200 events and about 256 KiB,
  or one event that is larger.
- However many clients read, each worker asks Postgres once. It keeps the newest 2,000 events, or
  4 MiB of them, and serves from there. A client that is further behind reads the tables until it
  has caught up.

## Types

{types} types. A payload has no other keys than these; a key without a value is absent.

### Kept

{kept}

### Live

{live}
"""


def render() -> str:
    """The page."""
    return _PAGE.format(
        kept_days=RetentionSettings().events,
        live_minutes=RetentionSettings().live_event_minutes,
        types=len(EventType),
        kept=_table(kept=True),
        live=_table(kept=False),
    )


def _table(*, kept: bool) -> str:
    rows = [
        f"| `{event.value}` | {event.meaning} | {_keys(event)} |"
        for event in EventType
        if event.kept is kept
    ]
    return "\n".join(("| Type | When | Payload |", "|---|---|---|", *rows))


def _keys(event: EventType) -> str:
    return ", ".join(f"`{key}`" for key in event.payload) or "none"


def main() -> None:
    """Entry of `python -m tools.events_doc`."""
    print(render(), end="")


if __name__ == "__main__":
    main()
