# SPDX-License-Identifier: Apache-2.0
"""
A worker of a bulk task in a process of its own, which a test kills.

Its task state store is a file. Usage: ``python bulk_child.py STORE ARGUMENTS``, both are paths.
"""

# ruff: noqa: PLC0415 - Airflow reads its environment when it is imported

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


class FileStore:
    """Airflow's task state store in a file, which is there whole or not at all."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str, default: Any = None) -> Any:
        found = json.loads(self._path.read_text()) if self._path.is_file() else {}
        return found.get(key, default)

    def set(self, key: str, value: Any, **_: Any) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps({key: value}))
        new.replace(self._path)


def main(store: str, arguments: str) -> None:
    from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
    from tests.support.scene import FakeTaskInstance

    task = BulkCreateResponsesOperator(task_id="ask", **json.loads(Path(arguments).read_text()))
    context: Any = {"ti": FakeTaskInstance(id="ti-0"), "task_state_store": FileStore(Path(store))}
    task.execute(context)


if __name__ == "__main__":
    sys.path.insert(0, os.environ["ROOT"])
    main(*sys.argv[1:])
