"""Schedules and channels of a workspace: what cannot be kept is left out with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from molecule_grpc.directory import TemplateSchedule
from molecule_grpc.templates.parsing import rules
from molecule_grpc.templates.parsing.defaults import Prompts
from molecule_grpc.templates.parsing.fields import Fields
from molecule_grpc.templates.reading.files import TemplateInvalid
from molecule_grpc.templates.values import Skipped

MAX_SCHEDULES: Final = 100
_NO_CHANNELS: Final = "this server runs no channels"


def schedules(
    fields: Fields, prompts: Prompts, directory: str
) -> tuple[tuple[TemplateSchedule, ...], tuple[Skipped, ...]]:
    """Schedules with their prompts, and those that are left out."""
    found: dict[str, TemplateSchedule] = {}
    skipped: list[Skipped] = []
    for number, entry in enumerate(fields.items("schedules")):
        label = f"schedules[{number}]"
        try:
            each = Fields(entry, f"{fields.where}: {label}")
            label = rules.folded(each.text("name")) or label
            each.source = each.source or fields.source
            schedule = TemplateSchedule(
                name=label,
                cron=" ".join(each.text("cron_expr").split()),
                prompt=prompts.read(each, "prompt", directory),
                timezone=each.text("timezone").strip(),
                enabled=each.flag("enabled", default=True),
            )
        except TemplateInvalid as error:
            skipped.append(Skipped(label, error.message))
            continue
        if reason := _unfit(schedule, found):
            skipped.append(Skipped(label, reason))
        else:
            found[schedule.name] = schedule
    return tuple(found.values()), tuple(skipped)


def channels(fields: Fields, known: Mapping[str, str]) -> tuple[Skipped, ...]:
    """Why each channel is left out."""
    given = fields.given.get("channels")
    if given is None:
        return ()
    if not isinstance(given, list):
        return (Skipped("channels", "must be a list"),)
    return tuple(_channel(entry, number, known) for number, entry in enumerate(given))


def _unfit(schedule: TemplateSchedule, found: Mapping[str, TemplateSchedule]) -> str:
    if schedule.name in found:
        return "another schedule of the workspace has this name"
    if not schedule.cron:
        return "has no cron_expr"
    if not schedule.prompt.strip():
        return "has no prompt"
    return "" if len(found) < MAX_SCHEDULES else f"is beyond {MAX_SCHEDULES} of the workspace"


def _channel(entry: Any, number: int, known: Mapping[str, str]) -> Skipped:
    label = f"channels[{number}]"
    if not isinstance(entry, Mapping):
        return Skipped(label, "must be a mapping")
    kind = entry.get("type")
    if not isinstance(kind, str) or not kind:
        return Skipped(label, "has no type")
    config = entry.get("config")
    if not isinstance(config, Mapping):
        return Skipped(kind, "has no config")
    for name, value in config.items():
        if isinstance(value, str) and rules.expanded(value, known) is None:
            return Skipped(kind, f"config.{name} needs a variable that is not set")
    return Skipped(kind, _NO_CHANNELS)
