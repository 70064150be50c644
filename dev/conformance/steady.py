# SPDX-License-Identifier: Apache-2.0
"""Another opinion on the same description: the validator steady, from npm, which says what field is wrong."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

from dev.conformance.oracle import DESCRIPTION, sent_by_the_sdk
from dev.conformance.servers import wait_until_it_answers
from dev.live.processes import Process, free_port, stop

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.requestlog import LoggedRequest

_COMPLAINT = re.compile(r"x-steady-error-\d")


class Steady:
    """A running validator."""

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    def check(self, requests: Iterable[LoggedRequest]) -> int:
        """
        Send on what the SDK's clients have asked a simulator; return how much that was.

        :raises AssertionError: with the first request that is not documented.
        """
        asked = sent_by_the_sdk(requests)
        for request in asked:
            params = dict(request.query)
            sent = self._http.request(request.method, request.path, params=params, json=request.body)
            # A complaint about a range or a type is a header, and the request is answered all the same.
            errors = {name: value for name, value in sent.headers.items() if _COMPLAINT.match(name)}
            if errors.get("x-steady-error-1-path") == "body.input" and isinstance(
                request.body["input"], list
            ):
                # It takes no message whose content has parts, not even OpenAI's own examples.
                continue
            if errors or not sent.is_success:
                raise AssertionError(f"{request.method} {request.path} {request.body}: {errors or sent.text}")
        return len(asked)


@contextmanager
def steady(command: str) -> Iterator[Steady]:
    """Run the validator inside the block."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="steady-") as folder:
        words = ["--host", "127.0.0.1", "--port", str(port), "--no-color"]
        process = Process(
            "steady",
            [command, *words, "--validator-query-array-format=brackets", str(DESCRIPTION)],
            env={"PATH": os.environ["PATH"], "HOME": folder},
            log=Path(folder) / "log.txt",
            cwd=Path(folder),
        )
        try:
            process.start()
            wait_until_it_answers(process, f"http://127.0.0.1:{port}/")
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
                yield Steady(http)
        finally:
            stop([process])
