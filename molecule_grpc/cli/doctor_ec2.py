"""`doctor backend` where workspaces are started on EC2: what would keep a machine from starting."""

from __future__ import annotations

from typing import Final

from botocore.exceptions import ClientError

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.ec2.calls import Calls, calling
from molecule_grpc.backends.ec2.failures import code_of
from molecule_grpc.backends.ec2.launch import Launcher
from molecule_grpc.cli.doctor import Finding
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.settings import Settings

_SECONDS: Final = 30.0
# As EC2 says that a call would have been done.
_WOULD: Final = "DryRunOperation"
_ANY_RUNTIME: Final = "*"


async def ask_ec2(settings: Settings) -> list[Finding]:
    """Ask EC2 for each launch template, with calls that change nothing."""
    calls = Calls(settings.ec2)
    launcher = Launcher(calls, settings.ec2, "doctor")
    try:
        found = [
            await _template(calls, launcher, runtime)
            for runtime, _ in settings.ec2.launch_templates
        ]
    finally:
        await calls.close()
    return [_platform(settings), *found]


async def _template(calls: Calls, launcher: Launcher, runtime: str) -> Finding:
    """Whether a machine of a runtime could be made: template, image, permissions, quota."""
    name = f"machines of {runtime}"
    request = StartRequest(
        operation_id=new_id(),
        workspace_id=new_id(),
        organization_id=new_id(),
        name="doctor",
        # A name that no pair has is looked up as all others are.
        runtime="" if runtime == _ANY_RUNTIME else runtime,
        tier=2,
    )
    fix = (
        "look at AWS_REGION, at the credentials, at the permissions of docs/backends.md, and at"
        " MOLECULE_EC2_LAUNCH_TEMPLATES"
    )
    try:
        async with calling(_SECONDS):
            wanted = await launcher.parameters(request, user_data="")
            try:
                await calls.ec2("run_instances", **wanted, DryRun=True)
            except ClientError as error:
                if code_of(error) != _WOULD:
                    raise
    except BackendFailure as failure:
        detail = f"{failure.reason}: {failure.detail or failure.public}"
        return Finding(name, well=False, detail=detail, fix=fix)
    disk = wanted["BlockDeviceMappings"][0]["DeviceName"]
    return Finding(name, well=True, detail=f"could be started, with {disk} encrypted")


def _platform(settings: Settings) -> Finding:
    url = settings.edge.external_platform_url
    return Finding(
        "platform",
        well=url.startswith("https://"),
        detail=url or "EXTERNAL_PLATFORM_URL is not set",
        fix="name an https:// URL that machines reach: workspaces' secrets travel there",
    )
