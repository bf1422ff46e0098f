"""A certificate authority for a laptop, with a certificate of a server and one of a client."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from molecule_grpc.cli.context import UsageError

CA, CA_KEY = "ca.pem", "ca-key.pem"
SERVER, SERVER_KEY = "server.pem", "server-key.pem"
CLIENT, CLIENT_KEY = "client.pem", "client-key.pem"
_FILES = (CA, CA_KEY, SERVER, SERVER_KEY, CLIENT, CLIENT_KEY)

_DAYS = 365
_CLOCK_SKEW = dt.timedelta(minutes=5)
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def dev_ca_variables(directory: Path) -> tuple[dict[str, str], dict[str, str]]:
    """What the server and its clients need for TLS, and what they need besides for mutual TLS."""
    path = {name: str(directory.resolve() / name) for name in _FILES}
    return (
        {
            "MOLECULE_TLS_CERT_FILE": path[SERVER],
            "MOLECULE_TLS_KEY_FILE": path[SERVER_KEY],
            "MOLECULE_CA_FILE": path[CA],
        },
        {
            "MOLECULE_TLS_CLIENT_CA_FILE": path[CA],
            "MOLECULE_CLIENT_CERT_FILE": path[CLIENT],
            "MOLECULE_CLIENT_KEY_FILE": path[CLIENT_KEY],
        },
    )


def make_dev_ca(directory: Path, hosts: Sequence[str]) -> None:
    """Write an authority, a server's certificate, a client's, and their keys.

    Args:
        directory: made if missing.
        hosts: what the server is called beside localhost, 127.0.0.1, ::1 and this machine's name.

    Raises:
        FileExistsError: a file is there already; nothing was written.
        UsageError: a host is no name and no address.
        OSError: the directory cannot be written.
    """
    authority = _authority()
    server = issue(
        authority,
        "Molecule gRPC",
        [*_LOCAL, socket.gethostname(), *hosts],
        ExtendedKeyUsageOID.SERVER_AUTH,
    )
    client = issue(authority, "Molecule gRPC client", (), ExtendedKeyUsageOID.CLIENT_AUTH)
    texts = [*pem(authority), *pem(server), *pem(client)]
    files = {directory / name: text for name, text in zip(_FILES, texts, strict=True)}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in files:
        if path.exists() or path.is_symlink():
            raise FileExistsError(None, "exists", str(path))
    for path, text in files.items():
        _write_new(path, text)


def issue(
    authority: Issued, name: str, hosts: Sequence[str], purpose: x509.ObjectIdentifier
) -> Issued:
    """A certificate of this authority for a server with these hosts, or for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _certificate(name, key, authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    if hosts:
        names = x509.SubjectAlternativeName(map(_general_name, dict.fromkeys(hosts)))
        builder = builder.add_extension(names, critical=False)
    return Issued(builder.sign(authority.key, hashes.SHA256()), key)


def pem(issued: Issued) -> tuple[bytes, bytes]:
    """The certificate and the key as PEM."""
    return (
        issued.certificate.public_bytes(serialization.Encoding.PEM),
        issued.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _authority() -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"Molecule gRPC development authority of {socket.gethostname()}"[:64]
    builder = (
        _certificate(name, key, _subject(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Issued(builder.sign(key, hashes.SHA256()), key)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise UsageError(f"not a host name of ASCII letters, nor an address: {host!r}") from error


def _write_new(path: Path, text: bytes) -> None:
    """Write a new file of mode 0600. Fails where the path exists, also as a link."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
