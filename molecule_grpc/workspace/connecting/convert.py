"""Connection details as the answer of an RPC."""

from __future__ import annotations

from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.workspace.connecting.details import ConnectionDetails
from molecule_grpc.workspace.connecting.tabs import TABS, Tab


def connection(details: ConnectionDetails) -> workspace_pb2.ConnectionInfo:
    """How an agent connects."""
    return workspace_pb2.ConnectionInfo(
        workspace_id=str(details.workspace_id),
        platform_url=details.platform_url,
        auth_token=details.auth_token,
        registry_endpoint=details.registry_endpoint,
        heartbeat_endpoint=details.heartbeat_endpoint,
        mcp_endpoint=details.mcp_endpoint,
        tabs=[_tab(each) for each in TABS],
        **details.texts(),
    )


def _tab(tab: Tab) -> workspace_pb2.ConnectionTab:
    return workspace_pb2.ConnectionTab(
        runtime=tab.runtime,
        title=tab.title,
        field=tab.field,
        install_url=tab.install_url,
        docs_url=tab.docs_url,
        problems=[
            workspace_pb2.ConnectionProblem(symptom=each.symptom, step=each.step)
            for each in tab.problems
        ],
    )
