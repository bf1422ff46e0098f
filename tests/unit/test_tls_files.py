"""Certificate files: what cannot be served is refused by name, and never replaces the old pair."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from molecule_grpc.cli.context import TlsOptions, UsageError
from molecule_grpc.cli.dev_ca import CA, SERVER, SERVER_KEY, make_dev_ca
from molecule_grpc.server.edge.tls import TlsFiles, read_tls
from molecule_grpc.server.process.certificates import EXPIRY, CertificateKeeper
from molecule_grpc.settings.edge import EdgeSettings
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

CERT, KEY, CLIENTS = (
    "MOLECULE_TLS_CERT_FILE",
    "MOLECULE_TLS_KEY_FILE",
    "MOLECULE_TLS_CLIENT_CA_FILE",
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two directories of two authorities."""
    one, two = (tmp_path_factory.mktemp("tls") / "made" for _ in range(2))
    make_dev_ca(one, ())
    make_dev_ca(two, ())
    return one, two


@pytest.fixture
def files(pairs: tuple[Path, Path], tmp_path: Path) -> TlsFiles:
    """Copies that a test may break."""
    for name in (SERVER, SERVER_KEY, CA):
        shutil.copy(pairs[0] / name, tmp_path / name)
    return TlsFiles(tmp_path / SERVER, tmp_path / SERVER_KEY, tmp_path / CA)


def written(key: PrivateKeyTypes, password: bytes = b"") -> bytes:
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )


def small_key() -> bytes:
    return written(rsa.generate_private_key(65537, 1024))


def encrypted_key() -> bytes:
    return written(rsa.generate_private_key(65537, 2048), b"password")


def edwards_key() -> bytes:
    return written(ed25519.Ed25519PrivateKey.generate())


@pytest.mark.parametrize(
    ("member", "variable"), [("certificate", CERT), ("key", KEY), ("client_ca", CLIENTS)]
)
def test_a_file_that_is_missing_or_unreadable_is_named(
    files: TlsFiles, member: str, variable: str
) -> None:
    path: Path = getattr(files, member)
    path.unlink()
    with pytest.raises(SettingsError, match=f"{variable}={path} cannot be read: No such file"):
        read_tls(files)
    path.mkdir()
    with pytest.raises(SettingsError, match=f"{variable}={path} cannot be read"):
        read_tls(files)


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\n"])
@pytest.mark.parametrize(
    ("member", "variable"), [("certificate", CERT), ("key", KEY), ("client_ca", CLIENTS)]
)
def test_a_file_without_pem_is_named(
    files: TlsFiles, member: str, variable: str, content: bytes
) -> None:
    getattr(files, member).write_bytes(content)
    with pytest.raises(SettingsError, match=f"^{variable}="):
        read_tls(files)


@pytest.mark.parametrize(
    ("made", "problem"),
    [(small_key, "2048 bits"), (encrypted_key, "encrypted"), (edwards_key, "ECDSA P-256")],
)
def test_a_key_that_the_edge_cannot_use_is_named(
    files: TlsFiles, made: Callable[[], bytes], problem: str
) -> None:
    files.key.write_bytes(made())
    with pytest.raises(SettingsError, match=f"{KEY}=.*{problem}"):
        read_tls(files)


def test_a_key_of_another_certificate_is_named(files: TlsFiles, pairs: tuple[Path, Path]) -> None:
    shutil.copy(pairs[1] / SERVER_KEY, files.key)
    with pytest.raises(SettingsError, match=f"{KEY}=.* is not the key of .* {CERT}="):
        read_tls(files)


@pytest.mark.parametrize(
    ("given", "missing"),
    [((CERT,), KEY), ((KEY,), CERT), ((CLIENTS,), CERT), ((CERT, CLIENTS), KEY)],
)
def test_half_a_pair_refuses_to_start(given: tuple[str, ...], missing: str) -> None:
    with pytest.raises(SettingsError, match=f"{given[0]} needs .*{missing}"):
        Settings.from_env(dict.fromkeys(given, "/some/file"))


def test_with_a_certificate_the_platform_is_https() -> None:
    edge = Settings.from_env({CERT: "/c", KEY: "/k"}).edge
    assert edge.local_url == "https://127.0.0.1:8080"
    assert TlsFiles.of(edge) == TlsFiles(Path("/c"), Path("/k"), None)
    assert TlsFiles.of(EdgeSettings()) is None


async def test_what_is_served_changes_with_the_files_and_never_to_half_a_pair(
    files: TlsFiles, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    directory = tmp_path / "private"
    keeper = CertificateKeeper(files, directory)
    keeper.install()
    assert served(directory) == files.certificate.read_text()
    shutil.copy(pairs[1] / SERVER, files.certificate)
    with structlog.testing.capture_logs() as logs:
        await keeper.look()
        assert not logs  # A copy may be under way.
        await keeper.look()
        await keeper.look()
    assert [line["log_level"] for line in logs] == ["error"]
    assert KEY in logs[0]["problem"]
    assert served(directory) == (pairs[0] / SERVER).read_text()
    shutil.copy(pairs[1] / SERVER_KEY, files.key)
    await keeper.look()
    assert served(directory) == (pairs[1] / SERVER).read_text()


async def test_keys_are_written_for_this_user_only(files: TlsFiles, tmp_path: Path) -> None:
    directory = tmp_path / "private"
    CertificateKeeper(files, directory).install()
    assert directory.stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


async def test_the_expiry_is_a_metric(files: TlsFiles, tmp_path: Path) -> None:
    CertificateKeeper(files, tmp_path / "private").install()
    (metric,) = EXPIRY.collect()
    expected = {name: when.timestamp() for name, when in read_tls(files).expiries().items()}
    assert set(expected) == {"server", "client_ca"}
    assert {each.labels["certificate"]: each.value for each in metric.samples} == expected


def test_files_of_the_command_line_are_named_when_they_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "chain").write_bytes(b"chain")
    with pytest.raises(UsageError, match="--ca-file /no/such/file cannot be read"):
        TlsOptions(ca_file=Path("/no/such/file")).root_certificates()
    with pytest.raises(UsageError, match="--client-key-file"):
        TlsOptions(client_cert_file=tmp_path / "chain").client_certificate()
    assert TlsOptions().root_certificates() is None
    assert TlsOptions().client_certificate() is None


def served(directory: Path) -> str:
    document = json.loads((directory / "certificate.json").read_text())
    text: str = document["resources"][0]["tls_certificate"]["certificate_chain"]["inline_string"]
    return text
