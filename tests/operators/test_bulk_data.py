# SPDX-License-Identifier: Apache-2.0
"""What goes into a bulk task, and what comes out of it, through the operator."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.cli.main import main
from airflow_provider_openai_runs.exceptions import OpenAIRunError, RunRequestError
from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from airflow_provider_openai_runs.simulator import Scenario
from airflow_provider_openai_runs.transport.shared_client import ClientOwner, SharedClient, shared
from tests.support import bulk_operators
from tests.support.scene import Scene

Bulk = Callable[..., BulkCreateResponsesOperator]
bulk = bulk_operators.bulk


class Ticket(BaseModel):
    team: str


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    if row["subject"] == "broken":
        raise LookupError("no such customer")
    return {"custom_id": row["id"], "input": f"{row['subject']}: {row['text']}"}


def _table(folder: Path) -> str:
    rows = ["id,subject,text", "T-1,Invoice,paid twice", "T-2,broken,x", "T-3,Odd,other", "T-1,Again,y"]
    (folder / "tickets.csv").write_text("\n".join(rows))
    return str(folder / "tickets.csv")


def test_a_table_becomes_typed_answers_and_what_failed_is_run_again(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    quick: dict[str, Any] = {"queued": 0, "in_progress": 0, "times": None}
    scene.simulator.script(Scenario(when="Odd", text='{"team": 7}', **quick))
    scene.simulator.script(Scenario(text='{"team": "billing"}', **quick))
    arguments = {
        "input_path": _table(tmp_path),
        "request": _request,
        "output_type": Ticket,
        "item_retries": 1,
    }
    result = scene.run(bulk(**arguments), scene.kept)
    assert (result["rows"], result["succeeded"], result["failed"]) == (4, 1, 3)
    [one] = read_results(result)
    assert (one["row"], one["custom_id"], one["output"]) == (0, "T-1", {"team": "billing"})
    errors = {item["row"]: item["error"] for item in read_results(result, failed=True) if item["error"]}
    assert "request() raised LookupError" in errors[1]
    assert "does not fit output_type" in errors[2]
    assert "custom_id T-1 is that of row 0, too" in errors[3]
    assert scene.creates() == 3
    lines = [
        json.loads(line)
        for line in Path(result["failed_path"].removeprefix("file://")).read_text().splitlines()
    ]
    assert [line["id"] for line in lines] == ["T-2", "T-3", "T-1"]
    scene.simulator.reset()
    scene.simulator.script(Scenario(text='{"team": "support"}', **quick))
    again = bulk(**{**arguments, "input_path": result["failed_path"]}, task_id="again")
    context = scene.context_of(type(scene.store)(), task_id="again")
    result = scene.run(again, context)
    assert {item["custom_id"]: item["output"]["team"] for item in read_results(result)} == {
        "T-3": "support",
        "T-1": "support",
    }


def test_an_input_that_has_changed_meanwhile_pays_nothing(scene: Scene, bulk: Bulk, tmp_path: Path) -> None:
    path = _table(tmp_path)
    scene.simulator.script(Scenario(queued=0, in_progress=0, times=None))
    operator = bulk(input_path=path, request=_request)
    scene.run(operator, scene.kept)
    count = scene.creates()
    Path(path).write_text("id,subject,text\nT-9,Other,x\n")
    with pytest.raises(RunRequestError, match="The input has changed"):
        scene.run(bulk(input_path=path, request=_request), scene.retry(scene.kept))
    assert scene.creates() == count


def test_a_table_that_breaks_in_the_middle_costs_nothing_of_what_was_created_before(
    scene: Scene, bulk: Bulk, tmp_path: Path
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0.3, times=None))
    lines = ["input", *(f"Question {number} {'x' * 2_000}" for number in range(30))]
    (tmp_path / "in.csv").write_bytes("\n".join(lines).encode() + b"\n\xff broken\nnever read")
    task = bulk(input_path=str(tmp_path / "in.csv"), max_unrecorded=5)
    with pytest.raises(RunRequestError, match="The input cannot be read: The table cannot be read"):
        scene.run(task, scene.kept)
    result = scene.kept["ti"].xcoms["return_value"]
    assert (result["stopped"], result["active"]) == ("input", 0)
    assert result["succeeded"] == len([*read_results(result)]) == scene.creates() >= 10


def test_what_a_task_has_left_without_a_retry_is_ended_by_its_folder(
    scene: Scene, bulk: Bulk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=0, times=None, when="quick"))
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=None))
    items = [{"custom_id": text, "input": text} for text in ("quick", "slow", "slower")]
    task = bulk(items=items)

    def is_half_done() -> bool:
        return bool([*tmp_path.rglob("results/*.jsonl")]) and len(scene.simulator.active()) == 2

    killer = bulk_operators.when(is_half_done, task.on_kill)
    with pytest.raises(OpenAIRunError, match="stop --path"):
        task.execute(scene.kept)
    killer.join()
    capsys.readouterr()
    [head] = tmp_path.rglob("head.json")
    where = ["--airflow-url", "http://127.0.0.1:9"]
    assert main(["stop", "--path", str(head.parent), "--yes", "--json", *where]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not scene.simulator.active()
    assert (found["stopped"], found["counts"]["succeeded"], found["counts"]["failed"]) == (2, 1, 2)
    results = [*read_results(found["manifest"], failed=True)]
    assert {item["custom_id"]: item["state"] for item in results} == {
        "quick": "succeeded",
        "slow": "failed",
        "slower": "failed",
    }


def test_an_item_that_the_task_has_ended_says_why(scene: Scene, bulk: Bulk) -> None:
    scene.simulator.script(Scenario(queued=0, in_progress=600, times=None))
    bulk_operators.left_going(scene, bulk(items=["a", "b"]))
    context = scene.retry(scene.kept)
    with pytest.raises(OpenAIRunError):
        scene.run(bulk(items=["a", "b"], completion_window=bulk_operators.LONG_OVER), context)
    for item in read_results(context["ti"].xcoms["return_value"], failed=True):
        assert "was cancelled by this task: completion_window is over" in item["error"]


@pytest.mark.parametrize(("max_unrecorded", "at_once"), [(5, 100), (250, 250)])
def test_as_many_creates_are_under_way_as_the_user_allows(
    scene: Scene, bulk: Bulk, monkeypatch: pytest.MonkeyPatch, max_unrecorded: int, at_once: int
) -> None:
    found: list[int] = []

    def noted(owner: ClientOwner, *, beside_polls: int) -> AbstractAsyncContextManager[SharedClient]:
        found.append(beside_polls)
        return shared(owner, beside_polls=beside_polls)

    monkeypatch.setattr("airflow_provider_openai_runs.bulk.worker_loop.shared", noted)
    scene.simulator.script(Scenario(queued=0, in_progress=0, times=None))
    scene.run(bulk(items=["a"], max_unrecorded=max_unrecorded), scene.kept)
    assert found == [at_once]
