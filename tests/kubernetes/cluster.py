"""A real Kubernetes cluster of one node, in a network namespace and control groups of its own.

The programs are built from their modules by `tools/kubernetes/build.sh`; etcd, containerd and the
network plugins are Debian's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from molecule_grpc.cli.dev_ca import CA, CLIENT, CLIENT_KEY, SERVER, SERVER_KEY, make_dev_ca
from molecule_grpc.server.children import die_with_parent
from tests.engine.namespace import Namespace
from tests.kubernetes.images import PAUSE, write_archive
from tests.waiting import PATIENCE

ROOT: Final = Path(__file__).parents[2]
BINARIES: Final = ROOT / "build" / "kubernetes"
PROGRAMS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
RBAC: Final = ROOT / "deploy" / "kubernetes-rbac.yaml"
NAMESPACE: Final = "molecule"
_NETWORK_PLUGINS: Final = Path("/usr/lib/cni")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_ADMIN: Final = "admin-token"
_START_SECONDS: Final = 120.0
_PODS: Final = "172.31.64.0/24"

_CONTAINERD: Final = """version = 2
root = "{d}/c"
state = "{d}/s"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{d}/c.sock"
[ttrpc]
address = "{d}/c.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
disable_apparmor = true
# The machine of the tests may not lower the score by which the kernel chooses whom to kill.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{d}/n"
"""
_STORAGE: Final = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "manual"},
    "provisioner": "kubernetes.io/host-path",
}


def missing() -> str:
    """Why this machine can have no cluster; empty if it can."""
    if os.geteuid() != 0:
        return "a cluster needs root"
    absent = [name for name in PROGRAMS if not (BINARIES / name).exists()]
    if absent:
        return f"not built: {', '.join(absent)} (tools/kubernetes/build.sh)"
    absent = [name for name in ("etcd", "containerd", "ctr", "nsenter") if not shutil.which(name)]
    if absent or not _NETWORK_PLUGINS.is_dir():
        return "not installed (Debian: etcd-server, containerd, containernetworking-plugins)"
    return ""


class KubernetesCluster:
    """Starts and ends a cluster. Nothing of it is left after `close`."""

    def __init__(self) -> None:
        # Short: the path of a Unix socket has at most 107 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="mgk-"))
        self.namespace = Namespace("kube")
        self._cgroup = self.directory.name
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Of the API server."""
        return f"https://{self.namespace.inside}:6443"

    def start(self) -> None:
        """Start everything, and wait until the node is ready to run pods."""
        self.namespace.open()
        make_dev_ca(self.directory / "tls", [self.namespace.inside])
        self._write_files()
        self._start_etcd()
        self._start_api_server()
        self._start_node()
        self._start_controllers()
        self.apply(_STORAGE)
        for document in yaml.safe_load_all(RBAC.read_text()):
            self.apply(document)
        self._until("the node", self._node_is_ready)

    def kubeconfig(self, token: str, name: str = "kubeconfig") -> Path:
        """A file with the account of a token."""
        authority = str(self.directory / "tls" / CA)
        cluster = {"server": self.url, "certificate-authority": authority}
        path = self.directory / name
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": cluster}],
                    "users": [{"name": "u", "user": {"token": token}}],
                    "contexts": [
                        {"name": "x", "context": {"cluster": "c", "user": "u"}},
                    ],
                    "current-context": "x",
                }
            )
        )
        return path

    def platform_token(self) -> str:
        """Of the account that the manifest makes, which may do no more than the manifest says."""
        return self._token("molecule-grpc")

    def poor_token(self) -> str:
        """Of an account without any right."""
        account = {"apiVersion": "v1", "kind": "ServiceAccount"}
        self.apply({**account, "metadata": {"name": "poor", "namespace": NAMESPACE}})
        return self._token("poor")

    def ask(self, verb: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        """A call as the cluster's administrator, by another client than the platform's."""
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"authorization": f"Bearer {_ADMIN}", "content-type": kind},
            method=verb,
        )
        context = ssl.create_default_context(cafile=self.directory / "tls" / CA)
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            text = answer.read()
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def apply(self, document: dict[str, Any]) -> None:
        """As `kubectl apply` of one document."""
        group, _, version = document["apiVersion"].rpartition("/")
        prefix = f"/apis/{group}/{version}" if group else f"/api/{version}"
        metadata = document["metadata"]
        if "namespace" in metadata:
            prefix += f"/namespaces/{metadata['namespace']}"
        plural = {"StorageClass": "storageclasses"}.get(document["kind"])
        plural = plural or document["kind"].lower() + "s"
        path = f"{prefix}/{plural}/{metadata['name']}?fieldManager=tests"
        self.ask("PATCH", path, document, "application/apply-patch+yaml")

    def close(self) -> None:
        """End everything, and remove every trace."""
        with contextlib.suppress(OSError, urllib.error.URLError):
            self.ask("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets")
            self._until("the end of all pods", lambda: not self.pods())
        for name in reversed(self._processes):
            _end(self._processes[name])
        for process in self._left():
            with contextlib.suppress(psutil.Error):
                process.kill()
                process.wait(PATIENCE)
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        self.namespace.close()
        for group in _CGROUPS.glob(f"*/{self._cgroup}"):
            _remove_cgroup(group)
        shutil.rmtree(self.directory, ignore_errors=True)

    def traces(self) -> list[str]:
        """Processes, mounts, directories and namespaces on the machine: none after `close`."""
        found = [f"process {process.pid}" for process in self._left()]
        found += [f"mount {mount}" for mount in self._mounts()]
        found += [f"directory {self.directory}"] * self.directory.exists()
        return found + [f"namespace {self.namespace.name}"] * self.namespace.exists

    def pods(self) -> list[dict[str, Any]]:
        """All pods of the platform's namespace."""
        return list(self.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"])

    def delete_workload(self, resource_id: str) -> None:
        """Delete the StatefulSet of a resource, as an operator might, and wait for its pod."""
        name = resource_id.partition("@")[0]
        self.ask("DELETE", f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{name}")
        self._until(
            "the end of the pod",
            lambda: not any(each["metadata"]["name"] == f"{name}-0" for each in self.pods()),
        )

    def freeze(self) -> None:
        """Stop the API server in its tracks: it accepts connections and never answers."""
        self._processes["kube-apiserver"].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the API server go on."""
        self._processes["kube-apiserver"].send_signal(signal.SIGCONT)

    def _token(self, account: str) -> str:
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        return str(self.ask("POST", path, body)["status"]["token"])

    def _write_files(self) -> None:
        directory = self.directory
        (directory / "tokens.csv").write_text(f'{_ADMIN},admin,1,"system:masters"\n')
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (directory / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        (directory / "sa.pub").write_bytes(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        (directory / "c.toml").write_text(_CONTAINERD.format(d=directory, pause=PAUSE))
        (directory / "n").mkdir()
        (directory / "n" / "1.conflist").write_text(json.dumps(_network(directory)))
        (directory / "kubelet.yaml").write_text(yaml.safe_dump(self._kubelet()))
        for group in _CGROUPS.iterdir():
            if group.is_dir() and not group.is_symlink():
                (group / self._cgroup).mkdir(exist_ok=True)
        self.kubeconfig(_ADMIN, "admin")

    def _start_etcd(self) -> None:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self._spawn(
            "etcd",
            f"--data-dir={self.directory}/e",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        )

    def _start_api_server(self) -> None:
        directory, tls = self.directory, self.directory / "tls"
        address = self.namespace.inside
        self._spawn(
            "kube-apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            f"--tls-cert-file={tls / SERVER}",
            f"--tls-private-key-file={tls / SERVER_KEY}",
            f"--cert-dir={directory}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={directory}/sa.pub",
            f"--service-account-signing-key-file={directory}/sa.key",
            f"--token-auth-file={directory}/tokens.csv",
            "--authorization-mode=RBAC",
            f"--kubelet-certificate-authority={tls / CA}",
            f"--kubelet-client-certificate={tls / CLIENT}",
            f"--kubelet-client-key={tls / CLIENT_KEY}",
            "--kubelet-preferred-address-types=InternalIP",
        )
        self._until("the API server", lambda: self.ask("GET", "/readyz") == "ok")

    def _start_node(self) -> None:
        directory = self.directory
        self._spawn("containerd", "--config", str(directory / "c.toml"))
        self._until("containerd", (directory / "c.sock").exists)
        archive = directory / "images.tar"
        write_archive(archive)
        command = ["ctr", "-a", f"{directory}/c.sock", "-n", "k8s.io", "images", "import"]
        subprocess.run([*command, str(archive)], check=True, capture_output=True)
        archive.unlink()
        self._spawn(
            "kubelet",
            f"--config={directory}/kubelet.yaml",
            f"--kubeconfig={directory}/admin",
            "--hostname-override=node",
            f"--node-ip={self.namespace.inside}",
            f"--root-dir={directory}/k",
            f"--cert-dir={directory}/k",
        )

    def _start_controllers(self) -> None:
        account = f"--kubeconfig={self.directory}/admin"
        self._spawn(
            "kube-controller-manager",
            account,
            f"--service-account-private-key-file={self.directory}/sa.key",
            "--leader-elect=false",
            "--enable-hostpath-provisioner=true",
            f"--cert-dir={self.directory}",
        )
        self._spawn(
            "kube-scheduler", account, "--leader-elect=false", f"--cert-dir={self.directory}"
        )

    def _kubelet(self) -> dict[str, Any]:
        tls = self.directory / "tls"
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.namespace.inside,
            "containerRuntimeEndpoint": f"unix://{self.directory}/c.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "failSwapOn": False,
            "failCgroupV1": False,
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "10Mi"},
            "imageGCHighThresholdPercent": 100,
            "authentication": {"x509": {"clientCAFile": str(tls / CA)}},
            "authorization": {"mode": "AlwaysAllow"},
            "tlsCertFile": str(tls / SERVER),
            "tlsPrivateKeyFile": str(tls / SERVER_KEY),
            "resolvConf": "",
            "podLogsDir": f"{self.directory}/logs",
            "volumePluginDir": f"{self.directory}/plugins",
            "syncFrequency": "10s",
            "nodeStatusUpdateFrequency": "5s",
        }

    def _node_is_ready(self) -> bool:
        for node in self.ask("GET", "/api/v1/nodes")["items"]:
            conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
            return conditions.get("Ready") == "True" and not node["spec"].get("taints")
        return False

    def _spawn(self, program: str, *arguments: str) -> None:
        path = BINARIES / program if program in PROGRAMS else program
        with (self.directory / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                [*self.namespace.entry, str(path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls prctl alone
            )

    def _until(self, what: str, reached: Any) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                if reached():
                    return
            ended = [name for name, each in self._processes.items() if each.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(self._last_lines(name) for name in ended or self._processes)
                raise RuntimeError(f"{what} did not come; ended: {ended}\n{logs}")
            time.sleep(0.1)

    def _last_lines(self, program: str) -> str:
        return f"{program}:\n{(self.directory / f'{program}.log').read_text()[-3000:]}"

    def _left(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(str(self.directory) in word for word in process.cmdline()):
                    yield process

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        mounts = [line.split()[4] for line in lines]
        return [mount for mount in mounts if mount.startswith(f"{self.directory}/")]


def _network(directory: Path) -> dict[str, Any]:
    ranges = {
        "type": "host-local",
        "ranges": [[{"subnet": _PODS}]],
        "dataDir": f"{directory}/addresses",
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": "mgk0",
        "isGateway": True,
        "ipMasq": False,
        "ipam": ranges,
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, {"type": "loopback"}]}


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove_cgroup(group: Path) -> None:
    for inner in group.iterdir():
        if inner.is_dir():
            _remove_cgroup(inner)
    with contextlib.suppress(OSError):
        group.rmdir()
