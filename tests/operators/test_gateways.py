# SPDX-License-Identifier: Apache-2.0
"""A gateway answers for a server that is away: it says nothing of a run, which goes on and is paid for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_openai_runs.exceptions import (
    LostCreateError,
    RunCallError,
    RunConnectionError,
    RunStorageError,
    RunTimeoutError,
)
from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.simulator import CodeInterpreter, Fault, ProducedFile, Scenario
from tests.support.scene import Make, Scene
from tests.support.scripted_server import NO_ROUTE, Answer, Asked, ScriptedServer

WAITING: dict[str, Any] = {
    "task_id": "ask",
    "conn_id": "scripted",
    "completion_window": 20,
    "poll_interval": 0.05,
    "deferrable": False,
}
PAGE: Answer = (404, {"message": "no healthy upstream"})
KONG: Answer = (404, {"message": "no Route matched with those values"})
GONE: Answer = (404, {"error": {"message": "No run found.", "type": "invalid_request_error"}})
DENIED: Answer = (401, {"error": {"message": "Bad key.", "type": "invalid_request_error"}})
REFUSED: Answer = (400, {"error": {"message": "Bad.", "type": "invalid_request_error"}})
FORBIDDEN: Answer = (403, {"detail": "blocked"})


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "acquire.GONE_SECONDS": 0.5,
        "acquire.NOT_SHOWN_YET": 0.05,
        "acquire.SEARCH_PAUSE": 0.2,
        "read_run.READ_PAUSES": (0.05, 0.05),
        "read_run.NOT_SHOWN_YET": 0.05,
    }.items():
        monkeypatch.setattr(f"airflow_provider_openai_runs.attempts.{name}", value)


class Server:
    """Runs of both kinds, whose next answers to some requests are not its own."""

    def __init__(self, *statuses: str) -> None:
        self.statuses = [*statuses] or ["completed"]
        self.created = 0
        self.cancelled = False
        self.instead: list[tuple[Callable[[Asked], bool], Answer]] = []
        self.messages: Callable[[Asked], Answer] = lambda _: (200, {"data": [message("run_1", "Blue.")]})

    def __call__(self, asked: Asked) -> Answer:
        for fits, answer in self.instead:
            if fits(asked):
                return answer
        if asked.path.endswith("/steps"):
            return 200, {"data": [], "has_more": False}
        if asked.path.endswith("/messages"):
            return self.messages(asked)
        if asked.path.endswith("/cancel"):
            self.cancelled = True
        elif asked.method == "POST":
            self.created += 1
            return 200, self.run("queued")
        return 200, self.run(self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0])

    def run(self, status: str) -> dict[str, Any]:
        status = "cancelled" if self.cancelled else status
        said = {"type": "message", "content": [{"type": "output_text", "text": "Blue."}]}
        return {"id": "run_1", "thread_id": "thread_1", "status": status, "output": [said]}

    def answer_instead(self, answer: Answer, *, times: int = 1, after: int = 0, of: str = "GET") -> None:
        """Answer so, in place of the server, some requests after the first ones that would fit."""
        left = iter([False] * after + [True] * times)

        def fits(asked: Asked) -> bool:
            is_poll = asked.path.endswith(("/run_1", "/responses/run_1"))
            return (is_poll if of == "GET" else asked.path.endswith(of)) and next(left, False)

        self.instead.append((fits, answer))


def message(run_id: str, text: str, number: int = 0) -> dict[str, Any]:
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return {"id": f"msg_{number}", "run_id": run_id, "role": "assistant", "content": content}


@pytest.fixture(params=["response", "thread run"])
def ask(request: pytest.FixtureRequest) -> Make:
    """Make an operator of either kind."""

    def make(**more: Any) -> Any:
        if request.param == "response":
            return CreateResponseOperator(**{**WAITING, "model": "m", "input": "?", **more})
        return CreateRunOperator(**{**WAITING, "thread_id": "thread_1", "assistant_id": "asst_1", **more})

    return make


@pytest.fixture
def server(scripted: ScriptedServer) -> Callable[..., Server]:
    def play(*statuses: str) -> Server:
        made = Server(*statuses)
        scripted.play(made)
        return made

    return play


# -- a 404 that names no run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [3, 9], ids=["for a moment", "for longer"])
@pytest.mark.parametrize("answer", [NO_ROUTE, PAGE, KONG], ids=["FastAPI", "Envoy", "Kong"])
def test_a_retry_takes_no_run_for_gone_because_of_a_gateway(
    scene: Scene, server: Any, ask: Make, answer: Answer, times: int
) -> None:
    for module in ("record", "tracked"):
        scene.monkeypatch.setattr(f"airflow_provider_openai_runs.runs.{module}.NOT_FOUND_GRACE", 0)
    away = server("in_progress")
    with pytest.raises(TaskDeferred):
        ask(deferrable=True).execute(scene.kept)
    away.statuses = ["completed"]
    away.answer_instead(answer, times=times)
    found = scene.run(ask(), scene.retry(scene.kept))

    assert (found["status"], found["output_text"]) == ("completed", "Blue.")
    assert away.created == 1


@pytest.mark.parametrize("times", [1, 1_000])
def test_another_run_takes_the_place_of_one_that_its_server_does_not_know_for_long(
    scene: Scene, server: Any, ask: Make, times: int
) -> None:
    unknown = server("in_progress")
    with pytest.raises(TaskDeferred):
        ask(deferrable=True).execute(scene.kept)
    unknown.statuses = ["completed"]
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.record.NOT_FOUND_GRACE", 0)
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.tracked.NOT_FOUND_GRACE", 0)
    first = iter(range(times))
    unknown.instead.append(
        (lambda asked: asked.method == "GET" and unknown.created == 1 and next(first, None) is not None, GONE)
    )
    found = scene.run(ask(), scene.retry(scene.kept))

    assert found["status"] == "completed"
    assert unknown.created == (1 if times == 1 else 2)


@pytest.mark.parametrize("answer", [PAGE, GONE], ids=["of a gateway", "of the API"])
def test_at_the_deadline_a_cancel_is_sent_whatever_a_poll_says(
    scene: Scene, server: Any, ask: Make, answer: Answer
) -> None:
    away = server("in_progress")
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.NOT_FOUND_GRACE", 0)
    away.answer_instead(answer, times=1_000, after=3)
    with pytest.raises(RunTimeoutError):
        scene.run(ask(completion_window=1))

    assert away.cancelled


# -- a read of what is paid for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [DENIED, FORBIDDEN, REFUSED, NO_ROUTE, GONE], ids=["401", "403", "400", "no route", "404"]
)
def test_a_read_that_is_refused_once_does_not_lose_the_answer(
    scene: Scene, server: Any, ask: Make, answer: Answer
) -> None:
    behind = server("in_progress", "completed")
    behind.answer_instead(answer, after=2)
    found = scene.run(ask())

    assert found["output_text"] == "Blue."
    assert behind.created == 1


@pytest.mark.parametrize(
    ("answer", "kind"), [(DENIED, RunConnectionError), (REFUSED, RunCallError), (NO_ROUTE, RunCallError)]
)
def test_a_read_that_stays_refused_is_left_to_a_retry_that_pays_nothing(
    scene: Scene, server: Any, ask: Make, answer: Answer, kind: type[Exception]
) -> None:
    behind = server("in_progress", "completed")
    behind.answer_instead(answer, after=2, times=3)
    with pytest.raises(kind, match=r"could not be read.*paid for: a retry reads it") as caught:
        scene.run(ask(), scene.kept)
    assert not isinstance(caught.value, AirflowFailException)
    found = scene.run(ask(), scene.retry(scene.kept))

    assert found["output_text"] == "Blue."
    assert behind.created == 1


def test_a_run_that_goes_on_at_another_replica_is_read_again(scene: Scene, server: Any, ask: Make) -> None:
    server("in_progress", "completed", "in_progress", "completed")
    assert scene.run(ask())["status"] == "completed"


# -- messages ------------------------------------------------------------------------------------------------


def run_on(**more: Any) -> CreateRunOperator:
    return CreateRunOperator(**{**WAITING, "thread_id": "thread_1", "assistant_id": "asst_1", **more})


@pytest.mark.parametrize("answer", [NO_ROUTE, GONE, (200, {"data": None}), (200, {"detail": "loading"})])
def test_messages_that_are_not_listed_once_are_listed_again(
    scene: Scene, server: Any, answer: Answer
) -> None:
    behind = server()
    behind.answer_instead(answer, of="/messages")
    assert scene.run(run_on())["output_text"] == "Blue."


def test_a_server_without_messages_is_a_warning_and_no_answer_that_does_not_fit(
    scene: Scene, server: Any
) -> None:
    behind = server()
    behind.messages = lambda _: NO_ROUTE
    lines = scene.log_of(operator := run_on())
    assert scene.run(operator)["output_text"] is None
    assert any("no answer is among the messages" in line for line in lines)
    with pytest.raises(RunCallError, match=r"its answer was not listed.*pays nothing"):
        scene.run(run_on(output_type={"type": "object"}), scene.kept)
    behind.messages = lambda _: (200, {"data": [message("run_1", '{"a": 1}')]})
    found = scene.run(run_on(output_type={"type": "object"}), scene.retry(scene.kept))

    assert found["output"] == {"a": 1}
    assert behind.created == 2  # one for each of the two tasks


@pytest.mark.parametrize("more", [{}, {"next_cursor": "x"}, {"has_more": True}])
def test_the_answer_at_the_end_of_a_long_thread_is_found(
    scene: Scene, server: Any, more: dict[str, Any]
) -> None:
    old = [message("run_0", f"Old {number}.", number) for number in range(100)]
    behind = server()
    newest = [message("run_1", "Blue.", 150), *old[1:]]
    behind.messages = lambda asked: (200, {"data": newest if "order=desc" in asked.query else old, **more})
    assert scene.run(run_on())["output_text"] == "Blue."
    assert behind.created == 1


def test_an_answer_that_a_cut_list_does_not_show_is_not_paid_for_again(scene: Scene, server: Any) -> None:
    behind = server()
    old = [message("run_0", f"Old {number}.", number) for number in range(100)]
    behind.messages = lambda _: (200, {"data": old})
    assert scene.run(run_on())["output_text"] is None
    assert behind.created == 1


# -- files, searches, pauses ---------------------------------------------------------------------------------


def test_a_lost_create_is_not_searched_for_without_a_pause(scene: Scene, server: Any) -> None:
    scene.monkeypatch.setattr("airflow_provider_openai_runs.runs.lost_create.SEARCH_SECONDS", 1.0)
    behind = server()
    behind.answer_instead((500, {}), of="/runs")
    searched: list[Asked] = []

    def fits(asked: Asked) -> bool:
        if asked.method == "GET" and asked.path.endswith("/runs"):
            searched.append(asked)
            return True
        return False

    behind.instead.append((fits, NO_ROUTE))
    with pytest.raises(LostCreateError, match="billing"):
        scene.run(run_on(), scene.kept)
    assert 1 <= len(searched) <= 10


@pytest.mark.parametrize("status", [401, 404])
@pytest.mark.parametrize("is_last", [False, True], ids=["a retry is left", "the last attempt"])
def test_a_file_that_a_key_does_not_give_for_a_moment_is_left_to_the_retry(
    scene: Scene, respond: Make, tmp_path: Path, status: int, *, is_last: bool
) -> None:
    scene.simulator.script(
        Scenario(
            queued=0,
            in_progress=0.05,
            output=[CodeInterpreter(files=[ProducedFile(name="chart.png", size=500)])],
            times=None,
        )
    )
    scene.simulator.fault(Fault(method="GET", path="/content$", status=status, times=None))
    context = scene.context_of(scene.store, try_number=3 if is_last else 1)
    operator = respond(output_path=str(tmp_path))
    if is_last:
        assert scene.run(operator, context)["status"] == "completed"
        return
    with pytest.raises(RunStorageError, match="A retry goes on with the same run"):
        scene.run(operator, context)
