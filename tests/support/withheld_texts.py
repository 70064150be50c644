# SPDX-License-Identifier: Apache-2.0
"""What the tasks of ``dev/live/dags/text_out_of_airflow.py`` are asked and answered, and where to find it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dev import ROOT

DAGS = ROOT / "dev" / "live" / "dags"
DAG_ID = "text_out_of_airflow"
PROMPT, ANSWER = "Zebrawood-prompt-7731", "Quicksilver-answer-4478"
_CALL = [{"name": "look_up", "arguments": {"name": ANSWER}}]
_FILES = {"type": "code_interpreter", "code": ANSWER, "logs": ANSWER, "files": [{"name": f"{ANSWER}.csv"}]}
_PAGE = {"type": "web_search", "pages": [{"url": f"https://a.example/{ANSWER}", "title": ANSWER}]}
_FAILED = {"code": "server_error", "message": f"At {ANSWER}: {PROMPT}"}
#: What the simulator does for each task.
SCENARIOS: dict[str, dict[str, Any]] = {
    "answers": {"text": ANSWER * 3, "output": [_FILES, _PAGE]},
    "answers_in_the_worker": {"text": ANSWER, "output": [_FILES, _PAGE]},
    "from_the_trigger": {"text": ANSWER},
    "typed": {"text": json.dumps({"name": "Ada", "more": ANSWER})},
    "typed_wrongly": {"text": json.dumps({"name": ANSWER})},
    "refuses": {"refusal": f"I will not say {ANSWER}."},
    "fails": {"ends": "failed", "error": _FAILED},
    "is_incomplete": {"ends": "incomplete", "incomplete_reason": "max_output_tokens", "text": ANSWER},
    "calls": {"function_calls": [_CALL, _CALL, _CALL], "text": ANSWER},
    "calls_nobody": {"function_calls": [[{"name": ANSWER, "arguments": {"name": ANSWER}}]]},
    "thread_run": {"text": ANSWER, "output": [_FILES]},
}
REFUSED = "is_refused_by_the_server"
FAILED = {
    *("typed_wrongly", "fails", "is_incomplete", REFUSED, "calls", "calls_nobody", "has_a_wrong_argument"),
}
#: A server that repeats what it was sent.
FAULT = {"method": "POST", "path": "/responses$", "status": 400, "message": f"No: {PROMPT}", "times": None}


def scenarios() -> list[dict[str, Any]]:
    return [{"when": rf"\[case {case}\]", "times": None, **does} for case, does in SCENARIOS.items()]


def holding(folder: Path, text: str) -> list[str]:
    """Name the files of a folder that hold a text, the database with its journal among them."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and text.encode() in path.read_bytes()
    ]
