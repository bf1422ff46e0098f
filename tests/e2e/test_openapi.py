"""The OpenAPI document tells what the edge serves: schemathesis compares the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.families import Family, NewFamily
from tests.e2e.test_bad_input import AWAY_TEXTS
from tests.waiting import PATIENCE

DOCUMENT = Path(__file__).parent.parent.parent / "gen/openapi/openapi.json"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# A stream of events has no end that one could wait for.
schema = schemathesis.openapi.from_path(DOCUMENT).exclude(path_regex=r"/stream$")


@pytest.fixture(scope="module")
async def guinea_pigs(new_family: NewFamily) -> Family:
    """A family of this module's own: good calls remove workspaces and revoke tokens."""
    return await new_family()


@schema.parametrize()
@settings(
    max_examples=5,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_what_the_document_promises(case: Case[Any], guinea_pigs: Family) -> None:
    """Status, content type and body of a few hundred calls, good and bad ones."""
    if "workspace_id" in case.path_parameters:
        case.path_parameters["workspace_id"] = guinea_pigs.own.id
    if "wait_seconds" in case.query:
        case.query["wait_seconds"] = 0
    org = guinea_pigs.org
    answer = case.call(base_url=str(org.wire.http.base_url), headers=org.headers, timeout=PATIENCE)
    if answer.status_code == 503 and AWAY_TEXTS.search(answer.text):
        return
    case.validate_response(answer, checks=CHECKS)
