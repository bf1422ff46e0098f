"""The edge's certificate: reads the operator's files, and writes them as Envoy watches them."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from molecule_grpc.server.edge.filters import Json
from molecule_grpc.settings.edge import EdgeSettings
from molecule_grpc.settings.values import SettingsError

CERTIFICATE_VARIABLE = "MOLECULE_TLS_CERT_FILE"
KEY_VARIABLE = "MOLECULE_TLS_KEY_FILE"
CLIENT_CA_VARIABLE = "MOLECULE_TLS_CLIENT_CA_FILE"

_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
_CERTIFICATE, _CLIENT_CA = "certificate", "client-ca"
_SERVER, _AUTHORITY = "server", "client_ca"
_MIN_RSA_BITS = 2048
# All that BoringSSL serves in Envoy.
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_KEY_KINDS = "RSA of at least 2048 bits, or ECDSA P-256, P-384 or P-521"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the operator keeps the pair, and the authority of clients if they need one."""

    certificate: Path
    key: Path
    client_ca: Path | None

    @classmethod
    def of(cls, settings: EdgeSettings) -> TlsFiles | None:
        """The files of these settings; None without TLS."""
        if settings.tls_cert_file is None or settings.tls_key_file is None:
            return None
        return cls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files held: a pair that fits, and the authority of clients, None for none."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def subjects(self) -> dict[str, str]:
        """Whom the certificates are for: names of the server, subjects of the authorities."""
        return {
            name: "; ".join(_names(each) for each in (found[:1] if name == _SERVER else found))
            for name, found in self._certificates()
        }

    def expiries(self) -> dict[str, dt.datetime]:
        """When the first certificate of each file is no longer valid."""
        return {
            name: min(each.not_valid_after_utc for each in found)
            for name, found in self._certificates()
        }

    def _certificates(self) -> Iterator[tuple[str, list[x509.Certificate]]]:
        yield _SERVER, x509.load_pem_x509_certificates(self.certificate)
        if self.client_ca is not None:
            yield _AUTHORITY, x509.load_pem_x509_certificates(self.client_ca)


def read_tls(files: TlsFiles) -> TlsMaterial:
    """Read the files.

    Raises:
        SettingsError: a file cannot be read or used, or the key is another certificate's. The
            message names the variable.
    """
    certificate = _read(CERTIFICATE_VARIABLE, files.certificate)
    key = _read(KEY_VARIABLE, files.key)
    first = _certificates(CERTIFICATE_VARIABLE, files.certificate, certificate)[0]
    if _private_key(files.key, key).public_key() != first.public_key():
        certified = f"{CERTIFICATE_VARIABLE}={files.certificate}"
        raise _unusable(
            KEY_VARIABLE, files.key, f"is not the key of the certificate in {certified}"
        )
    client_ca = None
    if files.client_ca is not None:
        client_ca = _read(CLIENT_CA_VARIABLE, files.client_ca)
        _certificates(CLIENT_CA_VARIABLE, files.client_ca, client_ca)
    return TlsMaterial(certificate, key, client_ca)


def write_secrets(material: TlsMaterial, directory: Path) -> None:
    """Write the material where `transport_socket` lets Envoy watch for it; for this user only."""
    pair = {
        "certificate_chain": {"inline_string": material.certificate.decode()},
        "private_key": {"inline_string": material.key.decode()},
    }
    secrets: dict[str, Json] = {_CERTIFICATE: {"tls_certificate": pair}}
    if material.client_ca is not None:
        trusted = {"trusted_ca": {"inline_string": material.client_ca.decode()}}
        secrets[_CLIENT_CA] = {"validation_context": trusted}
    for name, secret in secrets.items():
        resource = {"@type": _TYPE + "Secret", "name": name, **secret}
        _replace(_secret_path(directory, name), json.dumps({"resources": [resource]}))


def transport_socket(directory: Path, *, client_certificates: bool) -> Json:
    """TLS of a listener whose secrets lie in `directory`.

    Args:
        client_certificates: whether a client must show a certificate of the authority of clients.
    """
    context: Json = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_secret(directory, _CERTIFICATE)],
    }
    if client_certificates:
        context["validation_context_sds_secret_config"] = _secret(directory, _CLIENT_CA)
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": _TYPE + "DownstreamTlsContext",
            "require_client_certificate": client_certificates,
            "common_tls_context": context,
        },
    }


def _secret(directory: Path, name: str) -> Json:
    source = {
        "path": str(_secret_path(directory, name)),
        # Envoy reads the file anew when something is moved into the directory.
        "watched_directory": {"path": str(directory)},
    }
    return {"name": name, "sds_config": {"path_config_source": source}}


def _secret_path(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.replace(path)


def _read(variable: str, path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data.decode("ascii")
    except OSError as error:
        raise _unusable(variable, path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _unusable(variable, path, "is not PEM") from error
    return data


def _certificates(variable: str, path: Path, data: bytes) -> list[x509.Certificate]:
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise _unusable(variable, path, "holds no certificate in PEM") from error
    return found


def _names(certificate: x509.Certificate) -> str:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return certificate.subject.rfc4514_string()
    return ", ".join(str(name.value) for name in extension.value)


def _private_key(path: Path, data: bytes) -> PrivateKeyTypes:
    try:
        key = load_pem_private_key(data, password=None)
    except TypeError as error:
        raise _unusable(KEY_VARIABLE, path, "is encrypted; needed is one without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(KEY_VARIABLE, path, "holds no private key in PEM") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    raise _unusable(KEY_VARIABLE, path, f"is a key that cannot be served; needed is {_KEY_KINDS}")


def _unusable(variable: str, path: Path, problem: str) -> SettingsError:
    return SettingsError(f"{variable}={path} {problem}")
