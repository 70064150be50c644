# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: PLC0415 - Airflow is imported by those who need it, after conftest.py has set its environment

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario, Simulator
from dev.demo.report import SCRIPT
from tests.support.scene import Scene

EXAMPLES = sorted((Path(__file__).parents[1] / "example_dags").glob("*.py"))
#: How many rows a mapped example is tried with, of twenty: each takes Airflow a second.
ROWS = 2
#: How many runs each example pays for.
PAID = {"openai_mapped_prompts": ROWS, "openai_conversation": 2, "openai_tickets": 20}
PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "tool-outputs.md"
AGENT = Path(__file__).parents[1] / "example_dags" / "openai_agent.py"
TICKETS = AGENT.with_name("openai_tickets.py")


def skip_unless_a_person_can_be_asked() -> None:
    import airflow.sdk.exceptions

    if not hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"):
        pytest.skip("Airflow's tasks can wait for a person from 3.3 on")


def skip_unless_there_is_a_store() -> None:
    from tests.support.airflow_versions import HAS_STORE

    if not HAS_STORE:
        pytest.skip("Airflow has a task state store from 3.3 on")


def parse(path: Path) -> Any:
    """Parse a file as Airflow does; return its one Dag."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    bag = DagBag(path)
    assert bag.import_errors == {}
    assert not [*bag.captured_warnings.values()]
    (dag,) = bag.dags.values()
    return dag


@pytest.fixture
def fetch(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Any]:
    """Parse an example where there are no credentials."""

    def run(path: Path) -> Any:
        if path.name == AGENT.name:
            skip_unless_a_person_can_be_asked()
        if path.name == TICKETS.name:
            skip_unless_there_is_a_store()
        with monkeypatch.context() as bare:
            for name in [n for n in os.environ if n.startswith(("AIRFLOW_CONN_", "OPENAI_"))]:
                bare.delenv(name)
            return parse(path)

    return run


@pytest.fixture
def fetch_alone(
    fetch: Callable[[Path], Any], dags_folder: Callable[[Path], None], tmp_path: Path
) -> Callable[[Path], Any]:
    """Parse an example for dag.test(), which parses all files in the folder of Dags: it is the only one."""

    def run(path: Path) -> Any:
        dags_folder(tmp_path)
        return fetch(Path(shutil.copy(path, tmp_path)))

    return run


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_parses_without_warnings_or_credentials(path: Path, fetch: Callable[[Path], Any]) -> None:
    dag = fetch(path)

    assert dag.dag_id == path.stem
    assert "example" in dag.tags


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_succeeds_and_pays_for_no_run_twice(
    scene: Scene,
    path: Path,
    fetch_alone: Callable[[Path], Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_OPENAI_REPORTS", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_VAR_OPENAI_TICKETS", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_OPENAI_THREADS", scene.simulator.connection_json)
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
    scene.simulator.script(Scenario(queued=0.05, in_progress=0.15, times=None))
    dag = fetch_alone(path)
    for sensor in (task for task in dag.tasks if hasattr(task, "poke_interval")):
        sensor.poke_interval = 0.1
    if dag.has_task("prompts"):
        prompts = dag.get_task("prompts")
        rows = prompts.python_callable(rows=ROWS)
        prompts.python_callable = lambda *_, **__: rows
    run = dag.test(run_conf={"rows": 20})

    assert run.state == "success"
    assert len(scene.simulator.runs()) == PAID.get(path.stem, 1)
    assert scene.simulator.active() == []


def test_the_report_leaves_its_chart_and_its_sources_to_the_next_task(
    scene: Scene, fetch_alone: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_OPENAI_REPORTS", f"file://{tmp_path}")
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
    scene.simulator.script(Scenario.from_json({**SCRIPT, "queued": 0, "in_progress": 0.1}))
    pushed: list[Any] = []
    dag = fetch_alone(EXAMPLES[0].with_name("openai_report.py"))
    publish = dag.get_task("publish")
    read = publish.python_callable

    def keep(report: Any) -> Any:
        pushed.append(read(report))
        return pushed[0]

    publish.python_callable = keep
    assert dag.test().state == "success"
    assert pushed[0]["sources"] == ["https://energy.example/2026"]
    assert list(pushed[0]["pictures"].values()) == [50_000]


# -- the agent, which asks a person --------------------------------------------------------------------------

REFUND = FunctionCall(name="refund", arguments={"order_id": 1001, "cents": 1200, "reason": "broken"})


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Answer what a Dag asks while ``dag.test()`` waits; return a list that the questions will be in."""
    skip_unless_a_person_can_be_asked()

    def prepare(*, option: str, **entered: Any) -> list[str]:
        from airflow.models.hitl import HITLDetail
        from airflow.models.trigger import handle_event_submit
        from airflow.sdk.execution_time import supervisor
        from airflow.sdk.timezone import utcnow
        from airflow.triggers.base import TriggerEvent
        from airflow.utils.session import create_session

        class Answered(supervisor.InProcessSupervisorComms):
            """By its name the task sees that it runs in dag.test(), where nobody answers but a test."""

        monkeypatch.setattr(supervisor, "InProcessSupervisorComms", Answered)
        asked: list[str] = []

        def answer(_: logging.LogRecord) -> bool:
            # The thread that waits logs that it does, and so answers itself: there is nothing to race with.
            with create_session() as session:
                for page in session.query(HITLDetail).filter(HITLDetail.responded_at.is_(None)).all():
                    asked.append(str(page.body))
                    assert option in page.options
                    # What Airflow's own route does with an answer; to import the route takes seconds.
                    page.responded_by, page.responded_at = {"id": "ada", "name": "ada"}, utcnow()
                    page.chosen_options, page.params_input = [option], entered
                    event = TriggerEvent(page.as_resume_event_payload())
                    handle_event_submit(event, task_instance=page.task_instance, session=session)
            return True

        waits = logging.getLogger("airflow.sdk.definitions.dag")
        monkeypatch.setattr(waits, "filters", [answer])
        monkeypatch.setattr(waits, "level", logging.INFO)
        monkeypatch.setattr(waits, "_cache", {})
        return asked

    return prepare


@pytest.fixture
def ask_agent(
    scene: Scene, fetch_alone: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], tuple[Any, list[Any]]]:
    """Run the agent, whose model finds, looks up and refunds; return its Dag run and the refunds."""

    def run() -> tuple[Any, list[Any]]:
        monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
        find = FunctionCall(name="find_orders", arguments={"customer": "ada@example.com"})
        look_up = FunctionCall(name="look_up_order", arguments={"order_id": 1001})
        rounds = ((find,), (look_up,), (REFUND,))
        scene.simulator.script(
            Scenario(queued=0.05, in_progress=0.1, times=None, function_calls=rounds, text="Done.")
        )
        dag_run = fetch_alone(AGENT).test()
        with closing(sqlite3.connect(Path(os.environ["AIRFLOW_HOME"], "openai_agent.db"))) as database:
            return dag_run, database.execute("SELECT order_id, cents, reason FROM refunds").fetchall()

    return run


def describe_calls(simulator: Simulator) -> list[str]:
    """Return what the model read, in order."""
    inputs = [request.body["input"] for request in simulator.requests if request.method == "POST"]
    return [item["output"] for items in inputs if isinstance(items, list) for item in items]


def test_the_agent_looks_up_asks_and_refunds_what_a_person_approves(
    scene: Scene, ask_agent: Callable[[], tuple[Any, list[Any]]], decide: Callable[..., list[str]]
) -> None:
    asked = decide(option="Approve")
    run, refunds = ask_agent()
    found, looked_up, refunded = describe_calls(scene.simulator)

    assert run.state == "success"
    assert refunds == [(1001, 1200, "broken")]
    (page,) = asked
    assert "refund" in page
    assert '"cents": 1200' in page
    assert "espresso cup" in found
    assert '"refunded":0' in looked_up
    assert refunded == "Refunded."
    assert len(scene.simulator.runs()) == 4


def test_the_agent_ends_with_a_sentence_where_dag_test_could_ask_nobody(
    scene: Scene, ask_agent: Callable[[], tuple[Any, list[Any]]], capfd: pytest.CaptureFixture[str]
) -> None:
    skip_unless_a_person_can_be_asked()
    run, refunds = ask_agent()

    assert (run.state, refunds) == ("failed", [])
    assert "dag.test() has no page for it and would wait for ever" in "".join(capfd.readouterr())
    assert scene.simulator.active() == []


def test_the_agent_writes_nothing_that_a_person_rejects(
    scene: Scene, ask_agent: Callable[[], tuple[Any, list[Any]]], decide: Callable[..., list[str]]
) -> None:
    decide(option="Reject", comment="Ask for a photo first.")
    run, refunds = ask_agent()

    assert run.state == "success"
    assert refunds == []
    assert describe_calls(scene.simulator)[-1].endswith("The person says: Ask for a photo first.")


def test_the_agent_refunds_once_for_a_call_and_never_more_than_was_paid(
    fetch: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dag = fetch(AGENT)
    functions = {function.__name__: function for function in dag.get_task("agent").functions}
    refund = functions["refund"]
    monkeypatch.setitem(refund.__globals__, "DATABASE", tmp_path / "shop.db")
    dag.get_task("prepare").python_callable()

    for _ in range(2):
        refund(1001, 700, "broken", "call_1")
    with pytest.raises(ValueError, match="500 cents can be refunded"):
        refund(1001, 501, "broken", "call_2")
    with pytest.raises(LookupError, match="no order 7"):
        refund(7, 1, "broken", "call_3")
    assert functions["look_up_order"](1001)["refunded"] == 700


# -- the page about the outputs of tools ---------------------------------------------------------------------


def test_the_example_hands_over_what_its_task_has_worked_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dags_folder: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
    dags_folder(tmp_path)
    asked = tuple(FunctionCall(name="row_count", arguments={"table": name}) for name in ("orders", "none"))
    scene.simulator.script(Scenario(queued=0.05, in_progress=0.1, function_calls=(asked,)))
    example = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    file = tmp_path / "documented.py"
    file.write_text(example)
    run = parse(file).test()
    first, second = (r.body for r in scene.simulator.requests if r.path == "/responses")

    assert run.state == "success"
    assert [json.loads(item["output"]) for item in second["input"]] == [{"rows": 912}, {"rows": None}]
    assert second["tools"] == first["tools"]
    assert scene.simulator.active() == []


def test_a_deferred_run_finds_its_connection_in_the_database(
    scene: Scene, fetch_alone: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.setattr("airflow_provider_openai_runs.runs.polling.INTERVAL_BOUNDS", (0.1, 30.0))
    monkeypatch.delenv("AIRFLOW_CONN_OPENAI_DEFAULT")
    dag = fetch_alone(EXAMPLES[0].with_name("openai_response.py"))
    ask = dag.get_task("ask")
    ask.completion_window, ask.retries = 10, 0
    of_simulator = json.loads(scene.simulator.connection_json)
    with create_session() as session:
        session.add(Connection(conn_id="openai_default", **of_simulator))
    try:
        assert dag.test().state == "success"
    finally:
        with create_session() as session:
            session.query(Connection).delete()
    assert len(scene.simulator.runs()) == 1
