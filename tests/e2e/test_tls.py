"""TLS: every protocol over it, refusals in the handshake, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from cryptography import x509
from moleculeai.admin.v1 import admin_service_pb2
from moleculeai.admin.v1.admin_service_pb2_grpc import AdminServiceStub

from molecule_grpc.cli.dev_ca import dev_ca_variables, make_dev_ca
from molecule_grpc.client import CallError, ClientCertificate, Platform
from molecule_grpc.server.edge.tls import TlsFiles
from molecule_grpc.server.process.certificates import CertificateKeeper
from tests.connections import connected
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tests.forked import run_command
from tests.ports import free_port
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
# A unary call of gRPC-Web without a message: a frame of length 0.
_EMPTY_FRAME = bytes(5)


@dataclass(frozen=True, slots=True)
class Authority:
    """The files of `dev-ca`, and what clients make of them."""

    directory: Path

    @classmethod
    def made(cls, directory: Path) -> Authority:
        make_dev_ca(directory, ())
        return cls(directory)

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.pem"

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def copy_server_to(self, other: Authority) -> None:
        """Replace the server's pair of another one in place."""
        for name in ("server", "server-key"):
            shutil.copy(self.path(name), other.path(name))

    @property
    def files(self) -> TlsFiles:
        return TlsFiles(self.path("server"), self.path("server-key"), self.path("ca"))

    @property
    def client(self) -> ClientCertificate:
        return ClientCertificate(self.read("client"), self.read("client-key"))

    def context(self, shown: Authority | None = None) -> ssl.SSLContext:
        """Trusts this authority; shows the client's certificate of `shown`."""
        context = ssl.create_default_context(cafile=self.path("ca"))
        if shown is not None:
            context.load_cert_chain(shown.path("client"), shown.path("client-key"))
        return context

    def credentials(self, shown: Authority | None = None) -> grpc.ChannelCredentials:
        chain, key = shown.client if shown else (None, None)
        return grpc.ssl_channel_credentials(self.read("ca"), key, chain)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made(tmp_path_factory.mktemp("tls") / "made")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority.made(tmp_path_factory.mktemp("tls") / "other")


@pytest.fixture(scope="module")
def tls_server(
    session_database: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A real server that serves a copy of the authority's pair."""
    directory = tmp_path_factory.mktemp("server")
    shutil.copytree(authority.directory, directory / "tls")
    environment, _ = dev_ca_variables(directory / "tls")
    running = RunningServer(
        session_database,
        directory,
        MOLECULE_INBOX_BEAT_SECONDS="0.2",
        **environment,
    )
    running.start()
    yield running
    running.kill()


@contextlib.asynccontextmanager
async def tls_edge(
    authority: Authority, directory: Path, *, client_certificates: bool = False
) -> AsyncIterator[tuple[ScriptedEdge, CertificateKeeper]]:
    """A real edge with this authority's pair, before a scripted worker."""
    keeper = CertificateKeeper(authority.files, directory)
    keeper.install()
    async with scripted_edge(
        tls_directory=directory, client_certificates=client_certificates
    ) as edge:
        yield edge, keeper


async def shown_certificate(port: int, context: ssl.SSLContext) -> x509.Certificate:
    """What the edge shows to a new connection."""
    async with connected(port, host="localhost", tls=context) as (_, writer):
        data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(data)


def certificate_of(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.read("server"))


# Every protocol.


async def test_stock_clients_of_every_protocol_are_served(
    tls_server: RunningServer, authority: Authority
) -> None:
    operator = {"authorization": f"Bearer {tls_server.admin_token}"}
    async with httpx.AsyncClient(
        base_url=tls_server.url, verify=authority.context(), timeout=PATIENCE
    ) as http:
        assert (await http.get("/health")).json() == {"status": "ok"}
        made = await http.post(
            "/workspaces", json={"name": "t", "external": True}, headers=operator
        )
        connection = made.json()["connection"]
        assert connection["platform_url"] == tls_server.url
        async with http.stream("GET", "/events/stream", headers=operator) as events:
            assert events.headers["content-type"].startswith("text/event-stream")
            await anext(events.aiter_lines())
        web = await http.post(
            "/moleculeai.admin.v1.AdminService/GetHealth",
            content=_EMPTY_FRAME,
            headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
        )
        assert b"grpc-status:0" in web.content.replace(b" ", b"")
    async with grpc.aio.secure_channel(
        f"localhost:{tls_server.port}", authority.credentials()
    ) as channel:
        health = await AdminServiceStub(channel).GetHealth(admin_service_pb2.GetHealthRequest())
        assert isinstance(health, admin_service_pb2.GetHealthResponse)


@pytest.mark.parametrize(("protocol", "version"), [("--http2", b"2"), ("--http1.1", b"1.1")])
def test_curl_chooses_the_version_of_http(
    tls_server: RunningServer, authority: Authority, protocol: str, version: bytes
) -> None:
    command = ["curl", "-s", protocol, "--cacert", str(authority.path("ca")), "-o", "/dev/null"]
    done = subprocess.run(
        [*command, "-w", "%{http_version}", f"https://localhost:{tls_server.port}/health"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, version)


async def test_the_sdk_is_served_and_its_agents_too(
    tls_server: RunningServer, authority: Authority
) -> None:
    """An agent of a platform's connection trusts what the platform's connection trusts."""
    async with Platform(
        tls_server.url, tls_server.admin_token, root_certificates=authority.read("ca")
    ) as platform:
        made = await platform.create_workspace("over tls")
        token = made.connection.auth_token
        async with platform.agent(made.id, token) as agent, asyncio.timeout(PATIENCE):
            await agent.peers()


async def test_the_sdk_trusts_nobody_by_itself(
    tls_server: RunningServer, stranger: Authority
) -> None:
    for roots in (None, stranger.read("ca")):
        async with Platform(tls_server.url, "t", timeout=1, root_certificates=roots) as platform:
            assert not await platform.is_healthy()
            with pytest.raises(CallError):
                await platform.workspace("00000000-0000-0000-0000-000000000001")


def test_the_command_line_is_served(tls_server: RunningServer, authority: Authority) -> None:
    address = ["--url", tls_server.url, "--token", tls_server.admin_token]
    trusting = run("workspace", "ls", *address, "--ca-file", str(authority.path("ca")))
    assert trusting.returncode == 0, trusting.stderr
    alone = run("workspace", "ls", *address)
    assert alone.returncode == 5
    assert "--ca-file" in alone.stderr


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line without variables of this machine's own."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("MOLECULE_")}
    return run_command(words, {**clean, **environment}, PATIENCE)


# Handshakes.


async def test_old_versions_of_tls_and_plain_http_are_refused(
    authority: Authority, tmp_path: Path
) -> None:
    async with tls_edge(authority, tmp_path / "tls") as (edge, _):
        old = authority.context()
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="alert protocol version"):
            await shown_certificate(edge.port, old)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            new = authority.context()
            new.minimum_version = new.maximum_version = version
            await shown_certificate(edge.port, new)
        with pytest.raises(httpx.TransportError):
            await edge.http.get("/workspaces")


async def test_the_protocol_is_negotiated(authority: Authority, tmp_path: Path) -> None:
    async with tls_edge(authority, tmp_path / "tls") as (edge, _):
        for offered, chosen in (
            (["h2", "http/1.1"], "h2"),
            (["http/1.1"], "http/1.1"),
            (["h2"], "h2"),
        ):
            context = authority.context()
            context.set_alpn_protocols(offered)
            async with connected(edge.port, host="localhost", tls=context) as (_, writer):
                assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


async def test_without_a_certificate_of_the_authority_no_client_is_served(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """The handshake fails: no request of such a client reaches the edge's routes."""
    async with tls_edge(authority, tmp_path / "tls", client_certificates=True) as (edge, _):
        for shown in (None, stranger):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = authority.context(shown)
                context.minimum_version = context.maximum_version = version
                async with httpx.AsyncClient(verify=context, timeout=PATIENCE) as http:
                    with pytest.raises((httpx.TransportError, ssl.SSLError)):
                        await http.get(f"https://localhost:{edge.port}/healthz")
            async with grpc.aio.secure_channel(
                f"localhost:{edge.port}", authority.credentials(shown)
            ) as channel:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                    "/moleculeai.admin.v1.AdminService/GetHealth"
                )
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"", timeout=PATIENCE)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not edge.worker.calls
        async with httpx.AsyncClient(verify=authority.context(authority), timeout=PATIENCE) as http:
            answer = await http.get(f"https://localhost:{edge.port}/healthz")
            assert answer.json() == {"status": "ok"}


# Replaced certificates.


async def test_a_replaced_certificate_is_for_new_connections_and_open_streams_go_on(
    tls_server: RunningServer, authority: Authority, tmp_path: Path
) -> None:
    """The running server sees the files change; nothing is started again."""
    renewed = Authority.made(tmp_path / "renewed")
    served = Authority(tls_server.data_dir / "tls")
    trusting_both = ssl.create_default_context(cafile=authority.path("ca"))
    trusting_both.load_verify_locations(renewed.path("ca"))
    operator = {"authorization": f"Bearer {tls_server.admin_token}"}
    async with (
        httpx.AsyncClient(base_url=tls_server.url, verify=trusting_both, timeout=PATIENCE) as http,
        http.stream("GET", "/events/stream", headers=operator) as events,
    ):
        lines = events.aiter_lines()
        await anext(lines)
        before = await shown_certificate(tls_server.port, trusting_both)
        assert before == certificate_of(authority)
        renewed.copy_server_to(served)
        try:
            await until(
                lambda: shown_certificate(tls_server.port, trusting_both),
                lambda shown: shown == certificate_of(renewed),
            )
            for _ in range(3):  # lines that the server wrote after the change
                await anext(lines)
            with pytest.raises(ssl.SSLCertVerificationError):
                await shown_certificate(tls_server.port, authority.context())
            metrics = await http.get("/metrics")
            expiry = certificate_of(renewed).not_valid_after_utc.timestamp()
            (value,) = re.findall(r"molecule_tls_expiry_.*\"server\"} (\S+)", metrics.text)
            assert float(value) == expiry
        finally:
            authority.copy_server_to(served)
            await until(
                lambda: shown_certificate(tls_server.port, trusting_both),
                lambda shown: shown == certificate_of(authority),
            )


async def test_a_replaced_authority_of_clients_is_for_new_connections(
    authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    own = Authority(tmp_path / "served")
    shutil.copytree(authority.directory, own.directory)
    async with (
        tls_edge(own, tmp_path / "tls", client_certificates=True) as (edge, keeper),
        httpx.AsyncClient(verify=authority.context(authority), timeout=PATIENCE) as old,
    ):
        url = f"https://localhost:{edge.port}/healthz"
        assert (await old.get(url)).status_code == 200
        shutil.copy(stranger.path("ca"), own.path("ca"))
        await keeper.look()

        async def with_the_new_one() -> bool:
            async with httpx.AsyncClient(
                verify=authority.context(stranger), timeout=PATIENCE
            ) as http:
                with contextlib.suppress(httpx.TransportError, ssl.SSLError):
                    return (await http.get(url)).status_code == 200
            return False

        await until(with_the_new_one, bool)
        assert (await old.get(url)).status_code == 200  # its connection was open before
        async with httpx.AsyncClient(verify=authority.context(authority), timeout=PATIENCE) as http:
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await http.get(url)


# Start.


def test_a_file_that_cannot_be_served_refuses_to_start(
    authority: Authority, tmp_path: Path
) -> None:
    """Before anything else is started, and `doctor` says the same."""
    variable = "MOLECULE_TLS_KEY_FILE"
    own = Authority(tmp_path / "files")
    shutil.copytree(authority.directory, own.directory)
    plain, mutual = dev_ca_variables(own.directory)
    own.path("server-key").unlink()
    environment = {
        **plain,
        **mutual,
        "MOLECULE_DATA_DIR": str(tmp_path / "data"),
        "PORT": str(free_port()),
    }
    done = run("up", **environment)
    assert done.returncode == 1
    assert re.search(rf"{variable}=.* cannot be read", done.stderr.replace("\n", " "))
    assert not (tmp_path / "data").exists()
    looked = run("doctor", **environment)
    assert looked.returncode == 1
    assert f"wrong\tcertificate\t{variable}=" in looked.stdout


def test_doctor_shows_whom_a_certificate_is_for_and_when_it_expires(
    authority: Authority, tmp_path: Path
) -> None:
    plain, mutual = dev_ca_variables(authority.directory)
    environment = {**plain, **mutual, "MOLECULE_DATA_DIR": str(tmp_path), "PORT": str(free_port())}
    lines = run("doctor", **environment).stdout.splitlines()
    expiry = certificate_of(authority).not_valid_after_utc
    (certificate,) = [line for line in lines if line.startswith("ok\tcertificate\t")]
    assert "localhost, 127.0.0.1, ::1" in certificate
    assert f"expires {expiry:%Y-%m-%d %H:%M} UTC" in certificate
    assert any(line.startswith("ok\tauthority of clients\tCN=Molecule gRPC") for line in lines)


def test_dev_ca_overwrites_nothing_and_hides_its_keys(tmp_path: Path) -> None:
    made = run("dev-ca", str(tmp_path / "tls"), "--host", "molecule.internal", "--host", "10.0.0.7")
    assert made.returncode == 0, made.stderr
    files = {path.name: path for path in (tmp_path / "tls").iterdir()}
    keys = [path for name, path in files.items() if name.endswith("-key.pem")]
    assert len(keys) == 3
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    names = certificate_of(Authority(tmp_path / "tls")).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    shown = {str(name.value) for name in names.value}
    assert shown >= {"localhost", "127.0.0.1", "::1", socket.gethostname()}
    assert shown >= {"molecule.internal", "10.0.0.7"}
    before = {name: path.read_bytes() for name, path in files.items()}
    again = run("dev-ca", str(tmp_path / "tls"))
    assert again.returncode == 1
    assert "exists, and is not overwritten" in again.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before


def test_dev_ca_writes_nothing_where_one_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "client-key.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        make_dev_ca(tmp_path, ())
    assert [path.name for path in tmp_path.iterdir()] == ["client-key.pem"]


# The page.


async def test_the_commands_of_the_page_work(
    own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """dev-ca, mutual TLS, curl and the command line, as docs/operating.md writes them."""
    text = (ROOT / "docs" / "operating.md").read_text()
    section = text.split("\n## TLS\n")[1].split("\n## ")[0]
    start, use = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    before_up, up = start.split("molecule-grpc up")
    assert up.strip() == ""
    shown = shell(f"{before_up}\nenv", tmp_path)
    tls = dict(re.findall(r"^(MOLECULE_(?:TLS|CA|CLIENT)_\w*)=(.*)$", shown.stdout, re.MULTILINE))
    assert len(tls) == 6
    server = own_server(**tls)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "admin_token").write_text(server.admin_token)
    await until(server_says(server), lambda text: f"https://127.0.0.1:{server.port}" in text)
    done = shell(use.replace("8080", str(server.port)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert '{"status":"ok"}' in done.stdout
    assert "over-tls" in done.stdout


def server_says(server: RunningServer) -> Callable[[], Awaitable[str]]:
    async def read() -> str:
        return server.log.read_text()

    return read


def shell(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run commands of a page in a folder, with the programs of this environment."""
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=directory,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
