"""Runs a command while every core is kept busy: `python -m tools.busy make test`.

One loop a core at the command's own priority, so that each of its processes gets about half a core.
"""

from __future__ import annotations

import os
import subprocess
import sys

_LOOP = "while True: pass"


def main(command: list[str]) -> int:
    """The exit code of the command; the loops end with it."""
    loops = [
        subprocess.Popen([sys.executable, "-c", _LOOP], stdin=subprocess.DEVNULL)
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
