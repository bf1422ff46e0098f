"""One authority for TLS in place of the 140 that a machine trusts, while tests run.

No test calls anybody whose certificate a public authority has signed, and each client of `httpx`,
each worker and each command that reads those certificates spends 40 to 180 ms on them.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path

import certifi

_FILE, _DIRECTORY = "SSL_CERT_FILE", "SSL_CERT_DIR"
_END = "-----END CERTIFICATE-----\n"
# For programs that download.
BEFORE = dict(os.environ)


def _trust_one() -> None:
    first, end, _ = Path(certifi.where()).read_text().partition(_END)
    with tempfile.NamedTemporaryFile("w", prefix="molecule-test-", delete=False) as file:
        file.write(first + end)
    atexit.register(os.unlink, file.name)
    os.environ[_FILE] = file.name
    os.environ.pop(_DIRECTORY, None)


_trust_one()
