"""What each tool takes. These models are the input schemas that agents read, and they check."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema

_TEXT_BYTES = 1_048_576


def bytes_up_to(limit: int) -> Any:
    """At most so many bytes of UTF-8; the schema says it in characters, as it cannot in bytes."""

    def check(text: str) -> str:
        if len(text.encode("utf-8", "replace")) > limit:
            raise ValueError(f"should have at most {limit} bytes")
        return text

    return AfterValidator(check)


Text = Annotated[str, Field(min_length=1, max_length=_TEXT_BYTES), bytes_up_to(_TEXT_BYTES)]
Id = Annotated[str, Field(min_length=1, max_length=256), bytes_up_to(256)]


class Arguments(BaseModel):
    """Base of all: what a tool does not know is refused, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ListPeers(Arguments):
    """Of list_peers."""

    q: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "", description="Only peers whose name or role contains this, in any case."
    )
    limit: int = Field(100, ge=1, le=500, description="Most peers to return.")


class Delegate(Arguments):
    """Of delegate_task and delegate_task_async."""

    workspace_id: UUID = Field(description="The peer that shall do the work: an id of list_peers.")
    task: Text = Field(description="What to do, with all that the peer needs to know.")
    idempotency_key: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "",
        description="Makes a repeat safe for 24 hours: the same key with the same task and peer "
        "names the first task instead of making another.",
    )


class CheckTask(Arguments):
    """Of check_task_status."""

    task_id: Id = Field(description="The task: an id that delegating it returned.")
    workspace_id: str = Field(
        "", max_length=64, description="Not needed; the peer, as older agents name it."
    )


class UpdateTask(Arguments):
    """Of update_task_status."""

    task_id: Id = Field(description="The task: `task_id` of the message that brought it.")
    status: Literal["in_progress", "completed", "failed"] = Field(
        description="in_progress is a sign of work, the others end the task."
    )
    text: Annotated[str, Field(max_length=_TEXT_BYTES), bytes_up_to(_TEXT_BYTES)] = Field(
        "", description="The whole result when completed; why not, when failed."
    )


class Wait(Arguments):
    """Of wait_for_message."""

    timeout_secs: int = Field(
        30, ge=0, le=300, description="Seconds to wait. Stay below your client's own timeout."
    )


class Peek(Arguments):
    """Of inbox_peek."""

    limit: int = Field(10, ge=1, le=100, description="Most messages to return.")


class Pop(Arguments):
    """Of inbox_pop."""

    activity_id: UUID = Field(description="The message: its `activity_id`.")


class History(Arguments):
    """Of chat_history."""

    peer_id: UUID = Field(description="The peer: `peer_id` of a message, or an id of list_peers.")
    limit: int = Field(20, ge=1, le=500, description="Most messages to return.")
    before_ts: str = Field(
        "",
        max_length=64,
        description="Only messages strictly older than this RFC 3339 time: `created_at` of the "
        "oldest one that you have, with all its digits.",
    )


class Attachment(Arguments):
    """A file named in a message."""

    uri: Annotated[str, Field(min_length=1, max_length=4096), bytes_up_to(4096)] = Field(
        description="Where the file is."
    )
    name: Annotated[str, Field(min_length=1, max_length=512), bytes_up_to(512)] = Field(
        description="Its name."
    )
    mime_type: Annotated[str, Field(max_length=256), bytes_up_to(256)] = Field(
        "", alias="mimeType", description="Its media type."
    )
    size: float | None = Field(None, ge=0, description="Its size in bytes.", allow_inf_nan=False)


class Notify(Arguments):
    """Of send_message_to_user."""

    message: Text = Field(description="What to say.")
    attachments: list[Attachment] = Field([], max_length=64, description="Files to show.")


class _Schema(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        """Never: a title would repeat the name."""
        return False


def schema_of(arguments: type[Arguments]) -> dict[str, Any]:
    """The JSON schema that describes a tool's arguments."""
    schema = arguments.model_json_schema(schema_generator=_Schema)
    for each in (schema, *schema.get("$defs", {}).values()):
        # They are for readers of this file.
        each.pop("title", None)
        each.pop("description", None)
    return schema
