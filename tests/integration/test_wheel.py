"""The wheel carries everything that a checkout has and the program needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from molecule_grpc.resources import descriptor_set, envoy_dir, migrations_dir

ROOT = Path(__file__).parent.parent.parent


def test_the_wheel_finds_its_files_without_a_checkout(tmp_path: Path) -> None:
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", tmp_path, ROOT], check=True
    )
    (wheel,) = tmp_path.glob("molecule_grpc-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")

    code = (
        "import molecule_grpc.resources as r, moleculeai.workspace.v1.workspace_pb2\n"
        "print(r.migrations_dir(), r.envoy_dir(), r.descriptor_set())"
    )
    found = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": f"{tmp_path / 'site'}:{_site_packages()}"},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    carried = [tmp_path / "site/molecule_grpc/_data" / name for name in ("migrations", "envoy")]
    assert found[:2] == [str(path) for path in carried]
    for ours, theirs in zip((migrations_dir(), envoy_dir()), carried, strict=True):
        assert _names(ours) == _names(theirs)
    assert Path(found[2]).read_bytes() == descriptor_set().read_bytes()


def _site_packages() -> str:
    """Where our dependencies are, without the links to this checkout that `-S` leaves out."""
    return next(path for path in sys.path if path.endswith("site-packages"))


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
