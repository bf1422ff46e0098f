"""Many commands of `molecule-grpc` in one process: a process for each costs a second of CPU.

As a program it reads a command's words and standard input as a line of JSON, runs the command, and
prints a line with its exit code and what it wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from molecule_grpc.cli.main import app


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands one at a time, all with the same token."""

    process: subprocess.Popen[str]

    def run(self, *words: str, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([words, stdin]) + "\n")
        self.process.stdin.flush()
        code, out, error = json.loads(self.process.stdout.readline())
        return code, out, error

    def json(self, *words: str, stdin: str = "") -> Any:
        """What a command prints as JSON; it must succeed."""
        code, out, error = self.run(*words, "--json", stdin=stdin)
        assert code == 0, error
        return json.loads(out)


@contextlib.contextmanager
def command_line(url: str, token: str) -> Iterator[CommandLine]:
    """A process that runs commands against a server."""
    environment = {**os.environ, "MOLECULE_URL": url, "MOLECULE_TOKEN": token}
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield CommandLine(process)
        finally:
            process.kill()


def _serve() -> None:
    runner = CliRunner()
    for line in sys.stdin:
        words, given = json.loads(line)
        done = runner.invoke(app, words, input=given, prog_name="molecule-grpc")
        print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)


if __name__ == "__main__":
    _serve()
