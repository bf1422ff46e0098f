"""All benchmarks, one after the other, in their short form.

    python -m benchmarks            (make bench)

Each benchmark is also a command of its own with a longer form. Not run here: `chaos`, `faults`
and `restore`, which take minutes, and `neighbours`, which needs root.
"""

from __future__ import annotations

import subprocess
import sys

_SHORT = {
    "group_commit": ["--rounds", "3", "--seconds", "0.5"],
    "statements": [],
    "growth": ["--sizes", "100,10000", "--seconds", "0.3"],
    "call": ["--rounds", "4"],
    "wire": ["--seconds", "3", "--rounds", "3"],
    "delegations": ["--seconds", "3", "--rounds", "2"],
    "events": ["--seconds", "5"],
    "peers": ["--seconds", "2", "--rounds", "3"],
    "load": ["--minutes", "1"],
    "inbox": ["--seconds", "4", "--runs", "1", "--streams", "1,100,1000,5000"],
    "uploads": [],
}


def main() -> None:
    """Run every benchmark in turn; exit with status 1 if any of them failed."""
    failed = []
    for name, words in _SHORT.items():
        print(f"\n== {name}", flush=True)
        if subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *words], check=False
        ).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
