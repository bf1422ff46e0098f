"""Asks the OSV database for known vulnerabilities of every version that requirements/*.lock pins.

python -m tools.audit [--service-url URL]

Exit status: 0 none is known, 1 some are, 3 the database did not answer, so that nothing is known.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

LOCKS = Path(__file__).parent.parent / "requirements"
CLEAN, VULNERABLE, NOT_DONE = 0, 1, 3

_UV = Path(sys.executable).parent / "uv"
_UV_FOUND = 1
_PIN = re.compile(r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)
_SOURCE = '{ registry = "https://pypi.org/simple" }'


def pins() -> list[tuple[str, str]]:
    """Name and version of every package in any of the locks."""
    return sorted({pin for lock in LOCKS.glob("*.lock") for pin in _PIN.findall(lock.read_text())})


def audit(service_url: str = "") -> int:
    """Print what is known. Returns the exit status."""
    packages = pins()
    with tempfile.TemporaryDirectory() as directory:
        _write_project(Path(directory), packages)
        command: list[str | Path] = [_UV, "audit", "--frozen", "--no-cache"]
        command += ["--preview-features", "audit-command", "--directory", directory]
        command += ["--service-url", service_url] if service_url else []
        done = subprocess.run(command, check=False)
    if done.returncode == 0:
        return CLEAN
    if done.returncode == _UV_FOUND:
        return VULNERABLE
    print(
        f"audit: NOT DONE, for the reason above: nothing is known of the {len(packages)} packages;"
        " run `make audit` where https://api.osv.dev can be reached",
        file=sys.stderr,
    )
    return NOT_DONE


def _write_project(directory: Path, packages: Iterable[tuple[str, str]]) -> None:
    """Write a project of which `uv audit` reads our pins, without resolving anything."""
    named = [f'name = "{name}", version = "{version}"' for name, version in packages]
    project = 'name = "locked"\nversion = "0"\n'
    python = 'requires-python = ">=3.11"\n'
    (directory / "pyproject.toml").write_text(f"[project]\n{project}{python}")
    parts = [
        f"version = 1\n{python}",
        f'[[package]]\n{project}source = {{ virtual = "." }}',
        "dependencies = [",
        *(f"    {{ {pin}, source = {_SOURCE} }}," for pin in named),
        "]",
        *(
            "\n[[package]]\n{}\nsource = {}".format(pin.replace(", ", "\n"), _SOURCE)
            for pin in named
        ),
    ]
    (directory / "uv.lock").write_text("\n".join(parts) + "\n")


def main() -> None:
    """Entry of `python -m tools.audit`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service-url", default="", help="an OSV service; api.osv.dev by default")
    sys.exit(audit(parser.parse_args().service_url))


if __name__ == "__main__":
    main()
