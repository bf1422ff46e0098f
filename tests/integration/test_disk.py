"""Whether there is room on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.kernel.errors import Unavailable
from tests.small_disk import CannotMountError, fill, small_disk

_MIB = 1024 * 1024


async def test_a_disk_below_the_mark_has_no_room(tmp_path: Path) -> None:
    """Nothing else to mount: a mark above every disk."""
    low = DiskSpace(tmp_path, 2**60)
    low.require_room()  # not looked yet
    await low.look()
    with pytest.raises(Unavailable) as caught:
        low.require_room()
    assert (caught.value.reason, caught.value.retry_after) == ("DISK_LOW", 5)


@pytest.mark.parametrize("low_bytes", [0, 1])
async def test_a_disk_above_the_mark_has_room(tmp_path: Path, low_bytes: int) -> None:
    disk = DiskSpace(tmp_path, low_bytes)
    await disk.look()
    disk.require_room()


async def test_room_is_back_a_tenth_above_the_mark(tmp_path: Path) -> None:
    """A disk that wavers around the mark does not make service flutter."""
    try:
        with small_disk(tmp_path / "disk", 32) as place:
            disk, ballast = DiskSpace(place, 10 * _MIB), place / "ballast"
            for leave, room in ((12, True), (9, False), (10.5, False), (11.5, True), (10.5, True)):
                ballast.unlink(missing_ok=True)
                fill(ballast, leave=int(leave * _MIB))
                await disk.look()
                if room:
                    disk.require_room()
                else:
                    with pytest.raises(Unavailable):
                        disk.require_room()
    except CannotMountError:
        pytest.skip("may not mount")
