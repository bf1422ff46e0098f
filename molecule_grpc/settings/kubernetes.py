"""A Kubernetes cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from molecule_grpc.settings.pairs import Pairs, pairs
from molecule_grpc.settings.values import SWITCH, TEXT, WORDS, Kind, setting


def _list(text: str) -> tuple[dict[str, Any], ...]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError
    return tuple(value)


_OBJECTS: Final = Kind(_list, "a JSON list of objects", json.dumps)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """Pods of workspaces.

    Args:
        kubeconfig: file with the cluster's address and the platform's account; empty, without
            `context`, for the account of the pod that the platform itself runs in.
        context: of that file; empty for its current one.
        namespace: where everything is made. The platform needs rights in no other.
        images: the image of each runtime; `*` stands for all others.
        image_pull_secret: name of the Secret with the registry's password; empty for none.
        storage_class: of the workspaces' claims; empty for the cluster's default.
        config_storage: size of the claim for `/configs`, and of the one for sessions.
        data_storage: size of the claim for `/workspace`.
        runtime_class: RuntimeClass of the pods, such as `gvisor`; empty for the cluster's default.
        node_selector: labels that a node must have.
        tolerations: as a pod's definition has them.
        platform_addresses: ranges of addresses at which pods find the platform, where its URL has a
            name: workspaces with a list of hosts may reach them.
        network_policies: whether the cluster enforces NetworkPolicies. A cluster cannot be asked;
            without, no workspace with a list of hosts is started.
    """

    kubeconfig: str = setting("MOLECULE_KUBERNETES_CONFIG", TEXT, "")
    context: str = setting("MOLECULE_KUBERNETES_CONTEXT", TEXT, "")
    namespace: str = setting("MOLECULE_KUBERNETES_NAMESPACE", TEXT, "molecule")
    images: Pairs = setting("MOLECULE_KUBERNETES_IMAGES", pairs("runtime=image"), ())
    image_pull_secret: str = setting("MOLECULE_KUBERNETES_IMAGE_PULL_SECRET", TEXT, "")
    storage_class: str = setting("MOLECULE_KUBERNETES_STORAGE_CLASS", TEXT, "")
    config_storage: str = setting("MOLECULE_KUBERNETES_CONFIG_STORAGE", TEXT, "1Gi")
    data_storage: str = setting("MOLECULE_KUBERNETES_DATA_STORAGE", TEXT, "10Gi")
    runtime_class: str = setting("MOLECULE_KUBERNETES_RUNTIME_CLASS", TEXT, "")
    node_selector: Pairs = setting("MOLECULE_KUBERNETES_NODE_SELECTOR", pairs("label=value"), ())
    tolerations: tuple[dict[str, Any], ...] = setting(
        "MOLECULE_KUBERNETES_TOLERATIONS", _OBJECTS, ()
    )
    platform_addresses: tuple[str, ...] = setting(
        "MOLECULE_KUBERNETES_PLATFORM_ADDRESSES", WORDS, ()
    )
    network_policies: bool = setting("MOLECULE_KUBERNETES_NETWORK_POLICIES", SWITCH, False)
