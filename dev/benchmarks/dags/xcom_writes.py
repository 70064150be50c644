# SPDX-License-Identifier: Apache-2.0
"""A task that pushes as the operators do, and measures it: for ``dev.benchmarks.xcom``."""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from airflow_provider_openai_runs import results

#: A short answer, as the operators return it.
RESULT = {
    **dict.fromkeys(("object", "model", "instructions", "last_error", "incomplete_details", "output")),
    "id": "resp_0123456789abcdef0123456789abcdef0123456789abcdef",
    "status": "completed",
    "output_text": "The disk of the node that loads the orders is full. " * 10,
    "usage": {"prompt_tokens": 812, "completion_tokens": 140, "total_tokens": 952},
    "ref": {"kind": "response", "id": "resp_0123456789abcdef", "conn_id": "openai_default"},
    "steps": [{"id": f"msg_{number}", "type": "message", "status": "completed"} for number in range(5)],
}

with DAG("xcom_writes", schedule=None):

    @task(do_xcom_push=False)
    def push() -> None:
        """Push so many times; write the seconds of each to the file that the environment names."""
        ti = get_current_context()["ti"]
        log: Any = logging.getLogger(__name__)
        with open(os.environ["XCOM_WRITES_TO"], "a", encoding="utf-8") as file:  # noqa: PTH123
            for number in range(int(os.environ["XCOM_WRITES"])):
                began = time.perf_counter()
                ti.xcom_push(key=f"whole_{number}", value=RESULT)
                whole = time.perf_counter()
                results.push_named(ti, RESULT, log=log)
                took = {"whole": whole - began, "own": time.perf_counter() - whole}
                file.write(json.dumps({**took, "writes": len(results.named(RESULT))}) + "\n")

    push()
