# SPDX-License-Identifier: Apache-2.0
"""The row about ``output_path``: a worker that is killed while it writes what a run has brought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dev.chaos.trial import Trial

FILES, BYTES = 20, 3_000_000
PRODUCED = [{"name": f"table {number}.csv", "size": BYTES} for number in range(FILES)]
PART = ".part"

WRITING: dict[str, Any] = {
    "variant": "files",
    "seconds": 3.0,
    "script": {"output": [{"type": "code_interpreter", "files": PRODUCED}]},
}


def name_output(trial: Trial) -> None:
    """Give the trial a folder of its own."""
    trial.conf["output"] = f"file://{_folder(trial)}"


def kill_while_writing(trial: Trial) -> None:
    """Kill the task when some of its files are there, or are being written."""
    trial.until("writing", lambda: any(_files(trial)))
    trial.pause(0.0, 0.5)
    trial.kill_task()


def all_is_whole(trial: Trial) -> str | None:
    """Check that every file is there, and all of it, and nothing that is not."""
    files = _files(trial)
    if parts := [path.name for path in files if path.name.endswith(PART)]:
        return f"left behind: {parts}"
    replies = [path for path in files if path.name == "reply.json"]
    sizes = [path.stat().st_size for path in files if path not in replies]
    if sizes != [BYTES] * FILES:
        return f"{len(sizes)} files with {sorted(set(sizes))} bytes"
    whole = json.loads(replies[0].read_bytes()) if len(replies) == 1 else {}
    found = whole.get("run", whole).get("id")
    return None if found == trial.runs[0].id else f"{len(replies)} replies, of {found}"


def _folder(trial: Trial) -> Path:
    return trial.cluster.folder / "output" / trial.name


def _files(trial: Trial) -> list[Path]:
    return [path for path in _folder(trial).rglob("*") if path.is_file()]
