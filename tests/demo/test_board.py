# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from dev.demo.agent import story
from dev.demo.board import Board
from dev.demo.incidents import ClearTask, KillTriggerer, KillWorker
from dev.demo.performance import dag_code
from dev.demo.show import LiveShow, PlainShow


def instance(task_id: str, state: str | None, *, map_index: int = -1, tries: int = 1) -> dict[str, Any]:
    return {
        "dag_id": "d",
        "task_id": task_id,
        "map_index": map_index,
        "state": state,
        "operator": "CreateResponseOperator",
        "try_number": tries,
    }


def mapped(*states: str | None) -> list[dict[str, Any]]:
    return [instance("many", state, map_index=index) for index, state in enumerate(states)]


def test_a_mapped_task_is_one_bar_with_counts_and_the_workers_held() -> None:
    board = Board()
    board.update([instance("many", None)], seconds=0.5)
    board.update(mapped("queued", None, "running", "deferred", "deferred", "success"), seconds=0.5)

    assert str(board.bars["d.many"]) == "2 queued, 1 in a worker, 2 waiting, 1 done of 6"
    assert (board.lines, board.held) == ({}, 1)
    assert (board.worker_seconds, board.waiting_seconds) == (0.5, 1.0)


def test_plain_lines_tell_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    show, board = PlainShow(), Board()
    for state, tries in [("running", 1), ("running", 1), ("deferred", 1), ("success", 2)]:
        board.update([instance("ask", state, tries=tries)], seconds=0.5)
        show.show(board)

    said = [line.partition(" s  ")[2].split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()]
    assert said == ["in a worker", "waiting, holds no worker", "done (attempt 2)"]


def test_of_a_mapped_task_plain_lines_tell_little_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    show, board = PlainShow(), Board()
    for states in [
        ("queued", "queued"),
        ("running", "queued"),
        ("success", "running"),
        ("success", "success"),
    ]:
        board.update(mapped(*states), seconds=0.5)
        show.show(board)

    last = capsys.readouterr().out.splitlines()
    assert len(last) <= 2
    assert "0 waiting, 2 done of 2; workers held by all tasks: 0" in last[-1]


def test_a_terminal_shows_the_same_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    board.update([instance("ask", "deferred"), *mapped("running", "success")], seconds=0.5)
    with LiveShow() as show:
        show.tell("airflow", "healthy")
        show.show(board)

    text = capsys.readouterr().out
    assert "healthy" in text
    assert "waiting, holds no worker" in text
    assert "workers held: 1" in text


CASES = [
    (KillWorker, ["completed"], "success", True),
    (KillWorker, ["completed", "completed"], "success", False),
    (KillWorker, ["in_progress"], "deferred", False),
    (KillTriggerer, ["completed"], "success", True),
    (KillTriggerer, ["cancelled", "completed"], "success", False),
    (ClearTask, ["cancelled", "completed"], "success", True),
    (ClearTask, ["completed", "completed"], "success", False),
    (ClearTask, ["cancelled"], "success", False),
]


@pytest.mark.parametrize(("kind", "statuses", "state", "good"), CASES)
def test_a_promise_is_judged_by_the_runs_at_the_server(
    kind: Any, statuses: list[str], state: str, good: bool
) -> None:
    incident = kind.__new__(kind)
    runs = [{"id": f"resp_{number}", "status": status} for number, status in enumerate(statuses)]

    incident.held = True
    assert incident.ended_well(instance(kind.task_id, state), runs) is good
    incident.held = False
    assert not incident.ended_well(instance(kind.task_id, state), runs)


def test_the_story_of_the_agent_has_its_calls_with_their_results() -> None:
    steps = [
        {"type": "function_call", "details": {"call_id": "c1", "name": "refund", "arguments": '{"cents": 5}'}}
    ]
    body = {"input": [{"type": "function_call_output", "call_id": "c1", "output": "Refunded."}]}
    api: Any = type("Api", (), {"xcom": lambda *_, **__: {"steps": steps, "output_text": "Done."}})()
    simulator: Any = type("S", (), {"requests": lambda _: [{"method": "POST", "body": body}]})()
    task = instance("agent", "success") | {"dag_run_id": "r", "rendered_fields": {"input": "It broke."}}

    assert list(story(api, task, simulator)) == [
        "The customer writes: It broke.",
        "The model calls refund(cents=5)",
        "    -> Refunded.",
        "The model answers: Done.",
    ]


def test_the_code_that_is_shown_is_the_dag_itself() -> None:
    lines = dag_code().splitlines()

    assert lines[0].startswith("with DAG(")
    assert len(lines) <= 12
