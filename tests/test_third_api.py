# SPDX-License-Identifier: Apache-2.0
"""
A wire API that the package has never heard of, in one file: created, waited for, adopted and cancelled.

What the package asks of an API is ``wire.protocol.Wire``; an operator of its own names what is asked for. If
this file needs a change elsewhere, something outside of ``wire/`` knows too much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_openai_runs import wire
from airflow_provider_openai_runs.exceptions import RunRequestError, RunTimeoutError
from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.operators.existing import CancelRunOperator
from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunStatus
from airflow_provider_openai_runs.wire.protocol import Answer, ApiReply, ApiRequest, Flow
from tests.support.scene import Scene
from tests.support.scripted_server import Asked, ScriptedServer

KIND = "toy_job"
STATES = {
    "wait": RunStatus.QUEUED,
    "work": RunStatus.IN_PROGRESS,
    "done": RunStatus.COMPLETED,
    "off": RunStatus.CANCELLED,
}


class ToyWire:
    """Jobs: ``POST /jobs``, ``GET /jobs/{id}``, ``DELETE /jobs/{id}``, found again by ``GET /jobs``."""

    can_search = True
    answers_in_place = True

    def create_thread_for(self, request: RunRequest) -> ApiRequest[str] | None:
        del request
        return None

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        body = {**request.body, "label": token}
        return ApiRequest(
            method="POST", path="/jobs", body=body, pays=True, read=lambda reply: _run(reply.data, conn_id)
        )

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        return ApiRequest(method="GET", path=f"/jobs/{ref.id}", read=_poll)

    def retrieve(
        self, ref: RunRef, request: RunRequest | None = None, *, include: Sequence[str] = ()
    ) -> ApiRequest[Run]:
        del request, include
        return ApiRequest(
            method="GET", path=f"/jobs/{ref.id}", read=lambda reply: _run(reply.data, ref.conn_id)
        )

    def complete(self, run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
        del steps, include
        yield from ()
        return run

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        return ApiRequest(method="DELETE", path=f"/jobs/{ref.id}", read=_poll)

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        del thread_id, since
        jobs: list[Mapping[str, Any]] = yield ApiRequest(
            method="GET", path="/jobs", read=lambda reply: reply.data["jobs"]
        )
        ours = [job for job in jobs if str(job["label"]).startswith(token)]
        return SearchResult(ref=_ref(ours[-1], conn_id) if ours else None, conclusive=True)

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        raise NotImplementedError

    def output_format(self, *, name: str, schema: Mapping[str, Any], strict: bool) -> dict[str, Any]:
        del name, strict
        return {"like": schema}

    def page_template(self, host: str) -> str | None:
        return f"https://{host}/jobs/{{id}}"

    def missing_route(self, failure: RequestFailure) -> str | None:
        del failure
        return None


def _ref(data: Mapping[str, Any], conn_id: str) -> RunRef:
    return RunRef(kind=KIND, id=data["id"], conn_id=conn_id)


def _poll(reply: ApiReply) -> PollResult:
    return PollResult(status=STATES[reply.data["state"]], raw_status=reply.data["state"])


def _run(data: Mapping[str, Any], conn_id: str) -> Run:
    state = data["state"]
    return Run(
        ref=_ref(data, conn_id),
        status=STATES[state],
        raw_status=state,
        object="job",
        output_text=data.get("text"),
    )


class ToyJobOperator(BaseCreateOperator):
    template_fields = ("prompt",)

    def __init__(self, *, prompt: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.prompt = prompt

    def build_request(self) -> RunRequest:
        return RunRequest(kind=KIND, body={"prompt": self.prompt})


@dataclass
class Jobs:
    """The toy server: each poll brings a job one state further, up to ``stays``."""

    stays: str = "done"
    loses_the_next_answer: bool = False
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        self.asked.append(str(asked))
        job = self.jobs.get(asked.path.rpartition("/")[2])
        if asked.method == "POST":
            job = {"id": f"job{len(self.jobs)}", "state": "wait", **asked.body}
            self.jobs[job["id"]] = job
            lost, self.loses_the_next_answer = self.loses_the_next_answer, False
            return (502, {}) if lost else (200, job)
        if job is None:
            return (200, {"jobs": list(self.jobs.values())}) if asked.path == "/jobs" else (404, {})
        if asked.method == "DELETE":
            job["state"] = "off"
        elif job["state"] in {"wait", "work"} and job["state"] != self.stays:
            job["state"] = {"wait": "work", "work": "done"}[job["state"]]
            job["text"] = f"Simulated: {job['prompt']}"
        return 200, job


@pytest.fixture
def jobs(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    playing = Jobs()
    scripted.play(playing.answer)
    monkeypatch.setenv("AIRFLOW_CONN_JOBS", scripted.connection_json)
    monkeypatch.setitem(wire._WIRES, KIND, ToyWire())
    return playing


def job(**arguments: Any) -> ToyJobOperator:
    given = {"completion_window": 30, "poll_interval": 0.01, "deferrable": False}
    return ToyJobOperator(task_id="ask", conn_id="jobs", prompt="Why?", **{**given, **arguments})


@pytest.mark.parametrize("deferrable", [False, True], ids=["in the worker", "deferred"])
def test_a_job_is_created_once_and_waited_for(scene: Scene, jobs: Jobs, *, deferrable: bool) -> None:
    found = scene.run(job(deferrable=deferrable))

    assert (found["status"], found["output_text"]) == ("done", "Simulated: Why?")
    assert found["ref"] == {"kind": KIND, "id": "job0", "conn_id": "jobs"}
    assert len(jobs.jobs) == 1


def test_a_retry_adopts_the_job_of_the_attempt_before(scene: Scene, jobs: Jobs) -> None:
    jobs.stays = "work"
    with pytest.raises(TaskDeferred):
        job(deferrable=True).execute(scene.kept)
    jobs.stays = "done"

    assert scene.run(job(), scene.retry(scene.kept))["id"] == "job0"
    assert len(jobs.jobs) == 1


def test_a_job_whose_create_was_not_answered_is_found_by_its_token(scene: Scene, jobs: Jobs) -> None:
    jobs.loses_the_next_answer = True

    assert scene.run(job())["id"] == "job0"
    assert len(jobs.jobs) == 1


def test_a_job_is_cancelled_at_its_deadline(scene: Scene, jobs: Jobs) -> None:
    jobs.stays = "work"
    with pytest.raises(RunTimeoutError, match=r"Toy job job0 did not end within completion_window=0.2"):
        scene.run(job(completion_window=0.2))

    assert jobs.jobs["job0"]["state"] == "off"


def test_a_job_is_cancelled_by_its_ref(scene: Scene, jobs: Jobs) -> None:
    jobs.stays = "work"
    with pytest.raises(TaskDeferred):
        job(deferrable=True).execute(scene.context)
    ref = scene.context["ti"].xcoms["ref"]

    assert CancelRunOperator(task_id="end", ref=ref).execute(scene.context)["status"] == "off"
    assert "DELETE /jobs/job0" in jobs.asked


def test_an_unknown_kind_is_named_before_anything_is_sent(scene: Scene, jobs: Jobs) -> None:
    operator = CancelRunOperator(task_id="end", ref={"kind": "toy_jop", "id": "job0", "conn_id": "jobs"})
    with pytest.raises(RunRequestError, match="'toy_jop'"):
        operator.execute(scene.context)

    assert jobs.asked == []
