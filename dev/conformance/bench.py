# SPDX-License-Identifier: Apache-2.0
"""One server with one of its APIs, as the cases see it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai

from airflow_provider_openai_runs.runs.model import Run
from airflow_provider_openai_runs.runs.status import RunKind

if TYPE_CHECKING:
    from airflow_provider_openai_runs.hooks import OpenAIRunsHook
    from dev.conformance.dag_test import DagResult, Suite
    from dev.conformance.proxy import Proxy
    from dev.conformance.servers import Server

PROMPT = "Why is the sky blue? Answer in one short sentence."
#: Servers of ours take as long; others are quicker, and are cancelled before they have ended all the same.
SLOW_PROMPT = f"{PROMPT} sleep=20"
CREATES = {
    RunKind.THREAD_RUN: r"^POST .*/threads/[^/]+/runs$",
    RunKind.RESPONSE: r"^POST .*/responses$",
}
#: Agents of ours call a function in as many rounds.
ROUNDS = 5
ROUNDS_PROMPT = f"{PROMPT} rounds={ROUNDS}"
#: And those answer in the form that is asked for, which a real model would read off the request.
TYPED_PROMPT = "Which colour is the sky? Answer in JSON."
SUBMITS = r"^POST .*/submit_tool_outputs$"
CANCELS = r"^POST .*/cancel$"
_KEY = "conformance-key"
_AZURE = {"default_headers": {"api-key": _KEY}, "default_query": {"api-version": "preview"}}
_BETA = {"OpenAI-Beta": "assistants=v2"}
_SECONDS_FOR_A_RUN = 60.0


@dataclass(kw_only=True)
class Bench:
    """What a case needs: Dags, a hook, and somebody to count."""

    server: Server
    kind: RunKind
    proxy: Proxy
    suite: Suite

    def run_dag(self, name: str, prompt: str = PROMPT, **conf: Any) -> DagResult:
        """Run one of the suite's Dags."""
        arguments = self.arguments(prompt) | conf
        return self.suite.run(f"{self.kind.value}_{name}", self.connection, arguments)

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to the server."""
        made = {"conn_type": "openai", "password": _KEY, "host": self.proxy.base_url}
        return made | ({"extra": {"openai_client_kwargs": _AZURE}} if self.server.azure else {})

    @cached_property
    def hook(self) -> OpenAIRunsHook:
        """A hook on that connection."""
        from airflow_provider_openai_runs.hooks import OpenAIRunsHook  # noqa: PLC0415 # after Airflow's set-up

        os.environ[f"AIRFLOW_CONN_{self.server.name.upper()}"] = json.dumps(self.connection)
        return OpenAIRunsHook(self.server.name)

    @cached_property
    def sdk(self) -> openai.OpenAI:
        """The plain SDK, for what this package does not do, and to prove what a server cannot."""
        more: Any = _AZURE if self.server.azure else {}
        return openai.OpenAI(base_url=self.proxy.base_url, api_key=_KEY, max_retries=0, **more)

    @cached_property
    def assistant_id(self) -> str:
        """An assistant."""
        body = {"model": self.server.model, "instructions": "Be brief."}
        return str(self._post("/assistants", body)["id"])

    def new_thread(self, prompt: str) -> str:
        """Make a thread with one message."""
        return str(self._post("/threads", {"messages": [{"role": "user", "content": prompt}]})["id"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.sdk.post(
            path, cast_to=dict[str, Any], body=body, options={"headers": _BETA}
        )
        return found

    def arguments(self, prompt: str) -> dict[str, Any]:
        """Return what a create needs."""
        if self.kind is RunKind.RESPONSE:
            return {"model": self.server.model, "input": prompt}
        thread_id = self.new_thread("Hello.")
        # One by one: some servers forget the messages that a thread is created with.
        self._post(f"/threads/{thread_id}/messages", {"role": "user", "content": prompt})
        return {"thread_id": thread_id, "assistant_id": self.assistant_id}

    def create(self, prompt: str = PROMPT, **more: Any) -> Run:
        """Create a run by the hook."""
        make: Callable[..., Run] = (
            self.hook.create_background_response
            if self.kind is RunKind.RESPONSE
            else self.hook.create_thread_run
        )
        return make(**self.arguments(prompt) | more)

    def until_over(self, run: Run) -> Run:
        """Poll a run until it has ended or wants an answer."""
        deadline = time.monotonic() + _SECONDS_FOR_A_RUN
        while not (run.status.is_terminal or run.needs_action):
            if time.monotonic() > deadline:
                raise AssertionError(f"{run.ref} is still {run.raw_status} after {_SECONDS_FOR_A_RUN:.0f} s")
            time.sleep(0.2)
            run = self.hook.retrieve(run.ref, include_steps=True)
        return run

    @cached_property
    def finished(self) -> Run:
        """A run that has completed."""
        return self.until_over(self.create(metadata={"team": "data"}))

    def called(self) -> list[str]:
        """Return the cities that the function of the suite's Dags was asked about since the last time."""
        path = Path(os.environ["AIRFLOW_HOME"], "called.txt")
        found = path.read_text().split("\n")[:-1] if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def creates(self) -> int:
        """Count the paid requests until now."""
        return self.proxy.count(CREATES[self.kind])
