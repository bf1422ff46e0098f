"""Settings for a test, by group and field."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from molecule_grpc.egress import Egress, EgressRules
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.payer import ORGANIZATION
from molecule_grpc.lookups import Lookups
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.settings import Settings


def settings_of(**given: Any) -> Settings:
    """The defaults with some fields changed; `inbox_lease` is field `lease` of group `inbox`."""
    settings = Settings()
    for name, value in given.items():
        group = next(each.name for each in fields(settings) if name.startswith(f"{each.name}_"))
        member = name.removeprefix(f"{group}_")
        changed = replace(getattr(settings, group), **{member: value})
        settings = replace(settings, **{group: changed})
    return settings


def egress_of(rules: EgressRules) -> Egress:
    """Checks URLs by these rules, with any number of lookups at once."""
    return Egress(rules, Lookups(Budget("name lookups", {}), rules.settings.name_servers))


def unread_of(limit: int = 2**40) -> Unread:
    """Counts what clients have not taken; an organisation may leave so many bytes."""
    return Unread(Budget("bytes to streams", {ORGANIZATION: limit}))


def all_variables(*, secret: bool = False) -> list[str]:
    """Every variable that the settings declare; with `secret` only those that are never shown."""
    settings = Settings()
    return [
        item.metadata["variable"]
        for group in fields(settings)
        if group.name != "warnings"
        for item in fields(getattr(settings, group.name))
        if item.metadata["secret"] or not secret
    ]
