"""Requests to values, and values to responses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from moleculeai.admin.v1 import template_pb2 as pb

from molecule_grpc.kernel.text import cut_bytes
from molecule_grpc.templates import generating
from molecule_grpc.templates.catalogue import Listed, WorkspaceTemplate
from molecule_grpc.templates.importing import Source, as_json
from molecule_grpc.templates.results import Action, ImportResult, Outcome
from molecule_grpc.templates.values import Requirement

_MOST_LISTED = 200
# Bounds of a template's texts in answers: 200 templates together stay below 16 MiB.
_MOST_NOTES = 20
_MOST_TEXT_BYTES = 500
_MOST_DESCRIPTION_BYTES = 4096
_MOST_JSON_BYTES = 16 * 1024
_MAX_SECONDS = 2**31 - 1


def source(request: pb.ImportOrgRequest) -> Source:
    """Where the template of a request comes from."""
    inline = None
    if request.HasField("template"):
        inline = json_format.MessageToDict(request.template)
    return Source(directory=request.dir, archive=request.archive, inline=inline)


def imported(result: ImportResult) -> pb.ImportOrgResponse:
    """The answer to ImportOrg."""
    return pb.ImportOrgResponse(
        org=_cut(result.name),
        organization_id=str(result.organization_id),
        workspaces=[_workspace(each) for each in result.outcomes],
        count=len(result.outcomes),
        created=result.count(Action.CREATE),
        skipped=result.count(Action.SKIP, Action.DIFFER),
        failed=result.count(Action.FAIL),
        error=_cut(result.error),
        dry_run=result.dry_run,
        missing_env=_requirements(result.missing),
    )


def org_template(listed: Listed) -> pb.OrgTemplate:
    """A template of an organisation."""
    template = listed.template
    return pb.OrgTemplate(
        dir=listed.directory,
        name=_cut(template.name),
        description=cut_bytes(template.description, _MOST_DESCRIPTION_BYTES),
        workspaces=len(template.nodes),
        required_env=_requirements(template.requirements.required),
        recommended_env=_requirements(template.requirements.recommended),
    )


def workspace_template(template: WorkspaceTemplate) -> pb.WorkspaceTemplate:
    """A template of a workspace, without fields whose values have a wrong type in its file."""
    config = template.config
    inner = config.get("runtime_config")
    settings: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}
    skills = _texts(config.get("skills"))
    return pb.WorkspaceTemplate(
        id=template.directory,
        name=_cut(_text(config.get("name"))) or template.directory,
        description=cut_bytes(_text(config.get("description")), _MOST_DESCRIPTION_BYTES),
        tier=_whole(config.get("tier"), 100),
        runtime=_cut(_text(config.get("runtime"))),
        model=_cut(generating.model_of(config)),
        models=_values(settings.get("models") or config.get("models")),
        required_env=_texts(settings.get("required_env") or config.get("required_env")),
        skills=skills,
        skill_count=len(skills),
        provision_timeout_seconds=_whole(settings.get("provision_timeout_seconds"), _MAX_SECONDS),
    )


def _workspace(outcome: Outcome) -> pb.ImportedWorkspace:
    name = outcome.path[-1]
    return pb.ImportedWorkspace(
        id=str(outcome.id or ""),
        name=name,
        tier=outcome.tier,
        skipped=outcome.action in (Action.SKIP, Action.DIFFER),
        parent_id=str(outcome.parent_id or ""),
        path=outcome.path,
        action=pb.ImportedWorkspace.Action.Value(outcome.action),
        status=outcome.status,
        error=_cut(outcome.error),
        changed=[_cut(each) for each in outcome.changed],
        notes=[_cut(each) for each in outcome.notes[:_MOST_NOTES]],
        schedules=outcome.schedules,
        schedules_skipped=[
            pb.ImportedWorkspace.SkippedSchedule(name=_cut(each.what), reason=_cut(each.reason))
            for each in outcome.schedules_skipped[:_MOST_NOTES]
        ],
        channels_skipped=[
            pb.ImportedWorkspace.SkippedChannel(
                workspace=name, type=_cut(each.what), reason=_cut(each.reason)
            )
            for each in outcome.channels_skipped[:_MOST_NOTES]
        ],
    )


def _requirements(requirements: Iterable[Requirement]) -> list[struct_pb2.Value]:
    return _values([as_json(each) for each in requirements])


def _values(given: object) -> list[struct_pb2.Value]:
    if not isinstance(given, list):
        return []
    values = [json_format.ParseDict(each, struct_pb2.Value()) for each in given[:_MOST_LISTED]]
    return values if sum(each.ByteSize() for each in values) <= _MOST_JSON_BYTES else []


def _cut(text: str) -> str:
    return cut_bytes(text, _MOST_TEXT_BYTES)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [_cut(each) for each in value[:_MOST_LISTED] if isinstance(each, str)]


def _whole(value: object, most: int) -> int:
    return value if isinstance(value, int) and 0 <= value <= most else 0
