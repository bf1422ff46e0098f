"""A2A messages: the envelope a sender may leave out, and the text inside."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.text import clean

JSON = dict[str, Any]


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
        """The delegation named by the metadata, which this message answers; empty if none is."""
        metadata = self.message.get("metadata")
        value = metadata.get("delegation_id") if isinstance(metadata, dict) else None
        return value if isinstance(value, str) else ""


def parse(data: bytes) -> Envelope:
    """Read a message as JSON-RPC 2.0, or as bare `{method, params}`, and complete it.

    Raises:
        Invalid: it is not JSON, or has neither method nor content.
    """
    try:
        body = json.loads(data or b"null", parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise Invalid("invalid JSON", field="body") from None
    if not isinstance(body, dict):
        raise Invalid("the body must be a JSON object", field="body")
    method = body.get("method")
    if not isinstance(method, str) or not method:
        raise Invalid("method is required", field="body.method")
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


def text_of(body: Any) -> str:
    """The text in a body: of `params.message.parts`, `params.parts`, `parts`, or plain `text`."""
    if not isinstance(body, dict):
        return ""
    params = body.get("params")
    candidates = [body]
    if isinstance(params, dict):
        candidates.insert(0, params)
        if isinstance(params.get("message"), dict):
            candidates.insert(0, params["message"])
    for candidate in candidates:
        if texts := _texts(candidate.get("parts")):
            return "\n".join(texts)
    text = body.get("text")
    return text if isinstance(text, str) else ""


def _texts(parts: Any) -> list[str]:
    """Texts of parts that say `kind` or `type` text."""
    if not isinstance(parts, list):
        return []
    return [
        part["text"]
        for part in parts
        if isinstance(part, dict)
        and "text" in (part.get("kind"), part.get("type"))
        and isinstance(part.get("text"), str)
    ]


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
    given = message.get("messageId")
    # As it is stored: what looks different here must not become the same there.
    message["messageId"] = (clean(given) if isinstance(given, str) else "") or str(uuid.uuid4())
    if len(message["messageId"].encode()) > 256:
        raise Invalid("messageId must be at most 256 bytes", field="body.params.message.messageId")
    if message["messageId"].startswith(PLATFORM):
        raise Invalid(
            f"messageId must not begin with {PLATFORM}", field="body.params.message.messageId"
        )
    message.setdefault("role", "user")
    return {**params, "message": message}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
