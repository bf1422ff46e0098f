"""A2A messages: the envelope a sender may leave out, and the text inside."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import identifier

JSON = dict[str, Any]

_ID_BYTES = 256
_METHOD_CHARS = 128
_OUT_OF_RANGE_DIGITS = 400


@dataclass(frozen=True, slots=True)
class Envelope:
    """A complete JSON-RPC 2.0 request."""

    method: str
    message_id: str
    body: JSON

    @property
    def message(self) -> JSON:
        """`params.message`; empty when the method carries none."""
        params = self.body.get("params")
        message = params.get("message") if isinstance(params, dict) else None
        return message if isinstance(message, dict) else {}

    @property
    def delegation_id(self) -> str:
        """The delegation named by the metadata, which this message answers; empty if none is.

        Raises:
            Invalid: the name cannot be an id.
        """
        metadata = self.message.get("metadata")
        value = metadata.get("delegation_id") if isinstance(metadata, dict) else None
        field = "body.params.message.metadata.delegation_id"
        return identifier(value, field) if isinstance(value, str) else ""


def parse(data: bytes) -> Envelope:
    """Read a message as JSON-RPC 2.0, or as bare `{method, params}`, and complete it.

    Raises:
        Invalid: it is not JSON, or has neither method nor content.
    """
    try:
        body = json.loads(data or b"null", parse_int=_integer, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Invalid("invalid JSON", field="body") from None
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", field="body")
    method = body.get("method")
    if not isinstance(method, str) or not method:
        raise Invalid("method is required", field="body.method")
    if len(identifier(method, "body.method")) > _METHOD_CHARS:
        raise Invalid(f"method must be at most {_METHOD_CHARS} characters", field="body.method")
    params = body.get("params", {})
    if not isinstance(params, dict):
        raise Invalid("params must be an object", field="body.params")
    params = _completed(method, params)
    message = params.get("message")
    message_id = message["messageId"] if isinstance(message, dict) else str(uuid.uuid4())
    envelope = {"jsonrpc": "2.0", "id": body.get("id", message_id), **body, "params": params}
    return Envelope(method, message_id, envelope)


def message_body(delegation_id: str, task: str) -> JSON:
    """The message that hands a task over."""
    return {
        "jsonrpc": "2.0",
        "id": delegation_id,
        "method": "message/send",
        "params": {
            "message": {
                "role": "user",
                "messageId": delegation_id,
                "parts": [{"kind": "text", "text": task}],
                "metadata": {"delegation_id": delegation_id},
            }
        },
    }


def notice(text: str, message_id: str = "") -> Envelope:
    """A message in which the platform tells an agent something.

    Args:
        message_id: tells a repeat from another message; empty for a new one.
    """
    message_id = message_id or str(uuid.uuid4())
    message = {
        "role": "user",
        "messageId": message_id,
        "parts": [{"kind": "text", "text": text}],
        "metadata": {"from": "platform"},
    }
    body = {
        "jsonrpc": "2.0",
        "id": message_id,
        "method": "message/send",
        "params": {"message": message},
    }
    return Envelope("message/send", message_id, body)


def text_of(body: Any) -> str:
    """The text in a body: of `params.message.parts`, `params.parts`, `parts`, or plain `text`."""
    for candidate in _holders(body):
        if texts := [part["text"] for part in _parts(candidate) if _is_text(part)]:
            return "\n".join(texts)
    text = body.get("text") if isinstance(body, dict) else None
    return text if isinstance(text, str) else ""


def other_parts(body: Any) -> list[Any]:
    """The parts of a body that are not text: files, data, and what nobody knows."""
    return [part for each in _holders(body) for part in _parts(each) if not _is_text(part)]


def said(body: Any) -> str:
    """The text in a body; the JSON of its other parts when it has none."""
    text = text_of(body)
    if not text and (parts := other_parts(body)):
        text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    return text


def _holders(body: Any) -> list[JSON]:
    """The objects of a body that may hold parts, innermost first."""
    if not isinstance(body, dict):
        return []
    params = body.get("params")
    if not isinstance(params, dict):
        return [body]
    message = params.get("message")
    return [message, params, body] if isinstance(message, dict) else [params, body]


def _parts(holder: JSON) -> list[Any]:
    parts = holder.get("parts")
    return parts if isinstance(parts, list) else []


def _is_text(part: Any) -> bool:
    """Whether a part is text: it says so in `kind` or `type`, or, as in A2A 1.0, says nothing."""
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return False
    kinds = (part.get("kind"), part.get("type"))
    return "text" in kinds or kinds == (None, None)


def _completed(method: str, params: JSON) -> JSON:
    """Params whose message has an id and parts; the older `content` becomes a text part."""
    message = params.get("message")
    if not isinstance(message, dict):
        if method in ("message/send", "tasks/send"):
            raise Invalid("params.message is required", field="body.params.message")
        return params
    message = dict(message)
    if "parts" not in message and "content" in message:
        content = message.pop("content")
        message["parts"] = (
            content if isinstance(content, list) else [{"kind": "text", "text": str(content)}]
        )
    if not isinstance(message.get("parts"), list):
        raise Invalid(
            "the message has neither parts nor content", field="body.params.message.parts"
        )
    message["messageId"] = _message_id(message.get("messageId"))
    message.setdefault("role", "user")
    return {**params, "message": message}


def _message_id(given: Any) -> str:
    """The sender's own message id as sent, or a new UUID."""
    field = "body.params.message.messageId"
    if given is None or given == "":
        return str(uuid.uuid4())
    if not isinstance(given, str):
        raise Invalid("messageId must be a string", field=field)
    if len(identifier(given, field).encode()) > _ID_BYTES:
        raise Invalid(f"messageId must be at most {_ID_BYTES} bytes", field=field)
    if given.startswith(PLATFORM):
        raise Invalid(f"messageId must not begin with {PLATFORM}", field=field)
    return given


def _integer(digits: str) -> int | float:
    # Python reads no integer of more than 4,300 digits: a longer one becomes an infinite
    # double, which is refused by its place.
    return int(digits) if len(digits) < _OUT_OF_RANGE_DIGITS else float(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
