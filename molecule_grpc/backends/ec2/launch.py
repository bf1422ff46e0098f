"""From a launch template to a new machine: what is asked of EC2, whatever the template says."""

from __future__ import annotations

from typing import Final, NamedTuple

from botocore.exceptions import ClientError

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.ec2 import tags
from molecule_grpc.backends.ec2.calls import Calls
from molecule_grpc.backends.ec2.failures import MISMATCH, code_of
from molecule_grpc.backends.ec2.tags import Json
from molecule_grpc.settings.ec2 import Ec2Settings
from molecule_grpc.settings.pairs import look_up

_DEFAULT_VERSION: Final = "$Default"
_TAGGED: Final = ("instance", "volume")
# Of an image's root volume: what a machine's has, unless the launch template says otherwise.
_SIZES: Final = ("VolumeSize", "VolumeType", "Iops", "Throughput")


class Template(NamedTuple):
    """A launch template of the settings, `name` or `name:version`.

    Args:
        by: whether the name is an id: the parameter of Amazon's API.
    """

    by: str
    name: str
    version: str

    @classmethod
    def of(cls, runtime: str, settings: Ec2Settings) -> Template:
        """The template of a runtime.

        Raises:
            BackendFailure: `configuration`: none is named for the runtime.
        """
        written = look_up(settings.launch_templates, runtime)
        if not written:
            raise BackendFailure(
                FailureReason.CONFIGURATION,
                f"no launch template is named for the runtime {runtime}",
                undone=True,
            )
        name, _, version = written.partition(":")
        by = "LaunchTemplateId" if name.startswith("lt-") else "LaunchTemplateName"
        return cls(by, name, version or _DEFAULT_VERSION)


def parameters(
    request: StartRequest,
    template: Template,
    disk: Json,
    *,
    user_data: str,
    installation: str,
    settings: Ec2Settings,
) -> Json:
    """What RunInstances is asked for. A repeat of the same operation makes no second machine.

    Args:
        disk: mapping of the root volume.
    """
    named = tags.as_list(tags.of_machine(installation, request))
    instance_type = look_up(settings.instance_types, str(request.tier))
    return {
        "LaunchTemplate": {template.by: template.name, "Version": template.version},
        **({"InstanceType": instance_type} if instance_type else {}),
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": str(request.operation_id),
        "UserData": user_data,
        "TagSpecifications": [{"ResourceType": each, "Tags": named} for each in _TAGGED],
        # User data is read with a session token, and from the machine itself alone.
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
        },
        "InstanceInitiatedShutdownBehavior": "terminate",
        "DisableApiTermination": False,
        "BlockDeviceMappings": [disk],
    }


def root_disk(image: Json, data: Json) -> Json:
    """The root volume, as template and image size it: encrypted, and gone with its machine.

    Args:
        image: as EC2 describes the machine image.
        data: of the launch template.
    """
    device = image["RootDeviceName"]
    by_image = _volume(image, device)
    volume: Json = {name: by_image[name] for name in _SIZES if name in by_image}
    volume |= _volume(data, device)
    return {"DeviceName": device, "Ebs": volume | {"Encrypted": True, "DeleteOnTermination": True}}


def _volume(described: Json, device: str) -> Json:
    mappings: list[Json] = described.get("BlockDeviceMappings", [])
    found = next((each for each in mappings if each.get("DeviceName") == device), {})
    volume: Json = found.get("Ebs", {})
    return volume


class Launcher:
    """Makes machines."""

    def __init__(self, calls: Calls, settings: Ec2Settings, installation: str) -> None:
        self._calls = calls
        self._settings = settings
        self._installation = installation

    async def parameters(self, request: StartRequest, user_data: str) -> Json:
        """What RunInstances is to be asked for. Raises `BackendFailure`: template or image."""
        template = Template.of(request.runtime, self._settings)
        return parameters(
            request,
            template,
            await self.disk(template),
            user_data=user_data,
            installation=self._installation,
            settings=self._settings,
        )

    async def launch(self, wanted: Json) -> str:
        """Make a machine, and tell its id. A repeat finds the machine of the first call.

        Empty where an earlier try of the operation made a machine with another user data: that
        machine is found by its tags.
        """
        try:
            made = await self._calls.ec2("run_instances", **wanted)
        except ClientError as error:
            if code_of(error) == MISMATCH:
                return ""
            raise
        return str(made["Instances"][0]["InstanceId"])

    async def disk(self, template: Template) -> Json:
        """The root volume of a template's machines. Raises `BackendFailure`."""
        answer = await self._calls.ec2(
            "describe_launch_template_versions",
            **{template.by: template.name},
            Versions=[template.version],
            ResolveAlias=True,
        )
        versions = answer["LaunchTemplateVersions"]
        data = versions[0]["LaunchTemplateData"] if versions else {}
        if not data.get("ImageId"):
            raise BackendFailure(
                FailureReason.CONFIGURATION,
                "the launch template of the runtime names no machine image",
                undone=True,
            )
        images = await self._calls.ec2("describe_images", ImageIds=[data["ImageId"]])
        if not images["Images"]:
            raise BackendFailure(
                FailureReason.IMAGE_MISSING,
                "the machine image of the launch template is not there",
                undone=True,
            )
        return root_disk(images["Images"][0], data)
