"""Templates as their authors write them: large, uneven, with secrets beside the roles."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping

# A role in the longest form that was seen, over several lines.
LONG_ROLE = "\n".join(["Leads the work & decides; asks > guesses!"] * 52)[:2145]

_ORG = """\
template_schema_version: 1
name: "Molecule & Friends"
description: Four levels of agents
required_env: [GITHUB_TOKEN, lower_case_is_dropped]
recommended_env:
  - SLACK_TOKEN
defaults:
  runtime: claude-code
  tier: 3
  model: opus
  required_env:
    - any_of: [ANTHROPIC_API_KEY, OPENAI_API_KEY]
  plugins: &shared [careful-review, session-guard, not-there]
  initial_prompt: |
    Read /configs/system-prompt.md, then say: "ready".
  idle_prompt_file: prompts/idle.md
  idle_interval_seconds: 600
  category_routing:
%(routing)s
  initial_memories:
    - content: The house is called Molecule.
      scope: local
workspaces:
  - !include teams/lead.yaml
  - !include teams/marketing.yaml
global_memories:
  - content: Everybody writes English.
"""

_LEAD = """\
name: Dev Lead
role: |
%(role)s
files_dir: dev-lead
parent: Nobody In Particular
canvas: {x: 400, y: 50}
workspace_dir: /Users/somebody-else/molecule
model: opus
channels:
  - type: telegram
    config: {bot_token: "${TELEGRAM_BOT_TOKEN}", chat_id: "${TELEGRAM_CHAT_ID}"}
    enabled: true
  - type: slack
    allowed: everyone
schedules:
  - name: Orchestrator pulse
    cron_expr: "2,7,12,17,22,27,32,37,42,47,52,57 * * * *"
    prompt_file: schedules/pulse.md
    enabled: true
  - name: broken
    cron_expr: "every now and then"
    prompt: x
  - name: empty
    cron_expr: "* * * * *"
children:
%(children)s
"""

_TEAM = """\
name: Team %(n)d & Co
role: "Team lead: keeps [%(n)d] things going"
files_dir: team-%(n)d
plugins: ["!session-guard", extra-%(n)d]
system_prompt: |
  You lead team %(n)d. # no comment, a text
category_routing: {security: [Somebody], performance: []}
children:
%(children)s
"""

_WORKER = """\
name: "Worker %(n)d"
role: Does what is asked
model: openai:gpt-nobody-knows-%(n)d
files_dir: worker-%(n)d
idle_prompt: Look for work.
schedules:
  - {name: minute, cron_expr: "* * * * *", prompt: "Minute work of %(n)d"}
%(more)s
"""

_MARKETING = """\
name: Marketing
role: Tells the world
files_dir: marketing
workspace_dir: ${WORKSPACE_DIR}
initial_prompt_file: initial-prompt.md
shared_context: [old.md]
schedules:
  - {name: sweep, cron_expr: "0 9 * * 1-5", timezone: Europe/Berlin, prompt_file: schedules/s.md}
"""


def real_template() -> dict[str, bytes]:
    """42 workspaces on four levels, through 41 includes, most of them with `../`."""
    routing = "\n".join(f"    category-{n}: [Team {n}, Dev Lead]" for n in range(20))
    files = {
        "org.yaml": _ORG % {"routing": routing},
        ".env": "# shared\nGITHUB_TOKEN=ghp-of-the-root\nUNUSED=\n",
        "prompts/idle.md": "Nothing to do? " + "Look around. " * 450,
        "teams/lead.yaml": _LEAD
        % {"role": _indented(LONG_ROLE), "children": _includes("../team-%d/workspace.yaml", 7)},
        "teams/marketing.yaml": _MARKETING,
        "dev-lead/system-prompt.md": "You lead.\n" + "x" * 6_000,
        "dev-lead/schedules/pulse.md": "Pulse: " + "who is idle? " * 230,
        "dev-lead/config.yaml": "name: Old Name\ntier: 1\nruntime_config: {timeout: 30}\n",
        "dev-lead/.env": "export TELEGRAM_BOT_TOKEN='12:ab' # a bot\nGITHUB_TOKEN=\"ghp lead\"\n",
        "marketing/initial-prompt.md": "Begin.",
        "marketing/schedules/s.md": "Sweep the web.",
        "worker-0/.env": "WORKER_KEY=w0\n",
    }
    worker = 0
    for team in range(7):
        count = 5 if team < 5 else 4
        files[f"team-{team}/workspace.yaml"] = _TEAM % {
            "n": team,
            "children": "\n".join(
                f"  - !include ../worker-{worker + n}/workspace.yaml" for n in range(min(count, 4))
            ),
        }
        for n in range(count):
            more = ""
            if n == 3 and count == 5:
                more = f"children:\n  - !include ../worker-{worker + 4}/workspace.yaml"
            files[f"worker-{worker + n}/workspace.yaml"] = _WORKER % {"n": worker + n, "more": more}
            files[f"worker-{worker + n}/system-prompt.md"] = f"You are worker {worker + n}.\n"
        worker += count
    return {path: text.encode() for path, text in files.items()}


def tar_of(files: Mapping[str, bytes], mode: str = "w:gz", top: str = "") -> bytes:
    """An archive of these files, perhaps below one directory."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for path, content in files.items():
            member = tarfile.TarInfo(f"{top}{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def zip_of(files: Mapping[str, bytes], top: str = "") -> bytes:
    """The same as a zip."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            archive.writestr(f"{top}{path}", content)
    return target.getvalue()


def _includes(form: str, count: int) -> str:
    return "\n".join(f"  - !include {form % n}" for n in range(count))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
