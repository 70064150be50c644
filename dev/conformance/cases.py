# SPDX-License-Identifier: Apache-2.0
"""What a client does with a server; an ``AssertionError`` says what went wrong."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from airflow_provider_openai_runs.bulk import read_results
from airflow_provider_openai_runs.exceptions import RunNotFoundError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind
from dev.conformance.bench import (
    CANCELS,
    CREATES,
    PROMPT,
    ROUNDS,
    ROUNDS_PROMPT,
    SLOW_PROMPT,
    SUBMITS,
    TYPED_PROMPT,
    Bench,
)
from dev.conformance.dags.suite import TOOL

Case = Callable[[Bench], None]
RUN, RESPONSE = RunKind.THREAD_RUN, RunKind.RESPONSE
CASES: dict[RunKind, dict[str, Case]] = {RUN: {}, RESPONSE: {}}
_ITEMS = 200


def case(name: str, *kinds: RunKind) -> Callable[[Case], Case]:
    """Add a case to the suite, of one API or of both."""

    def add(function: Case) -> Case:
        for kind in kinds or CASES:
            CASES[kind][name] = function
        return function

    return add


def check(right: object, what: str, seen: object) -> None:
    """Fail with what was seen, unless all is right."""
    if not right:
        raise AssertionError(f"{what}: {seen}")


def check_completed(found: Any, log: str = "") -> None:
    """Check the dict that a task has pushed."""
    check(isinstance(found, dict), "nothing in XCom", log[-1500:])
    check(found["status"] == "completed", "status", found["status"])
    check(found["output_text"], "output_text", found["output_text"])
    check(found["id"] == found["ref"]["id"], "id and ref", (found["id"], found["ref"]))


def _wait(bench: Bench, dag: str) -> None:
    before = bench.creates()
    result = bench.run_dag(dag)
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check_completed(result.xcoms["ask"], result.log)
    check(bench.creates() == before + 1, "creates", bench.creates() - before)


@case("create and wait")
def create_and_wait(bench: Bench) -> None:
    """An operator that waits in its worker."""
    _wait(bench, "wait")


@case("create and wait, deferred")
def create_and_wait_deferred(bench: Bench) -> None:
    """An operator that waits in the triggerer."""
    _wait(bench, "wait_deferred")


@case("thread and run at once", RUN)
def new_thread(bench: Bench) -> None:
    """An operator that brings the thread along."""
    _wait(bench, "new_thread")


@case("fire and forget")
def fire_and_forget(bench: Bench) -> None:
    """An operator that does not wait."""
    result = bench.run_dag("forget")
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check(result.xcoms["ask"]["ref"]["id"], "ref", result.xcoms["ask"])


@case("wait in a sensor")
def sensor(bench: Bench) -> None:
    """A sensor and a reading operator take the run over."""
    result = bench.run_dag("sensor")
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check_completed(result.xcoms["until"])
    check_completed(result.xcoms["read"])
    check(result.xcoms["read"]["steps"], "steps", result.xcoms["read"]["steps"])


@case("read")
def read(bench: Bench) -> None:
    """The hook reads what the server says of a run."""
    run = bench.hook.retrieve(bench.finished.ref)
    check(run.raw_status == "completed", "status", run.raw_status)
    check(run.metadata.get("team") == "data", "metadata", run.metadata)
    check(run.created_at and run.model, "created_at, model", (run.created_at, run.model))
    listed = run.to_xcom()
    check(listed["ref"] == bench.finished.ref.to_json(), "ref", listed["ref"])


@case("list", RUN)
def list_runs(bench: Bench) -> None:
    """The hook lists the runs of a thread."""
    listed = bench.hook.list_thread_runs(bench.finished.ref.thread_id or "")
    check([run.ref for run in listed] == [bench.finished.ref], "runs", listed)


@case("steps")
def steps(bench: Bench) -> None:
    """The hook reads what a run did."""
    found = bench.hook.steps(bench.finished.ref)
    check(found and all(step.type != "unknown" and step.details for step in found), "steps", found)


@case("output")
def output(bench: Bench) -> None:
    """The hook reads what a run answered."""
    check(bench.hook.output(bench.finished.ref), "output", None)


@case("next turn")
def next_turn(bench: Bench) -> None:
    """A run goes on from another one."""
    first = bench.finished
    more = (
        {"previous_response_id": first.ref.id}
        if bench.kind is RESPONSE
        else {"thread_id": first.ref.thread_id}
    )
    run = bench.until_over(bench.create(**more))
    check(run.raw_status == "completed" and run.output_text, "run", (run.raw_status, run.last_error))


@case("cancel")
def cancel(bench: Bench) -> None:
    """An operator ends a run that is at work."""
    asked = bench.proxy.count(CANCELS)
    result = bench.run_dag("cancel", SLOW_PROMPT)
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check(bench.proxy.count(CANCELS) > asked, "cancels", 0)
    ended = {"cancelled", "completed"} if bench.server.too_quick else {"cancelled"}
    check(result.xcoms["end"]["status"] in ended, "status", result.xcoms["end"]["status"])


@case("cancel what has ended")
def cancel_ended(bench: Bench) -> None:
    """To cancel a run that has ended is success."""
    check(bench.hook.cancel(bench.finished.ref).raw_status == "completed", "status", None)


@case("window over")
def window_over(bench: Bench) -> None:
    """When its window is over, an operator cancels its run and says so."""
    asked = bench.proxy.count(CANCELS)
    result = bench.run_dag("window_over", SLOW_PROMPT)
    check(bench.proxy.count(CANCELS) > asked, "cancels", 0)
    if bench.server.too_quick and result.state == "success":
        check_completed(result.xcoms["ask"])
        return
    check(result.state == "failed", "Dag run", result.state)
    text = result.errors.get("RunTimeoutError", "")
    check("The run was cancelled" in text, "error", result.errors or result.log[-1500:])


@case("unknown run")
def unknown_run(bench: Bench) -> None:
    """To read a run that does not exist is an error that says so."""
    thread = {"thread_id": bench.new_thread("Hello.")} if bench.kind is RUN else {}
    name = "run_id" if bench.kind is RUN else "response_id"
    result = bench.run_dag("read", **thread, **{name: "run_000000000000000000000000"})
    check(result.state == "failed", "Dag run", result.state)
    check("RunNotFoundError" in result.errors, "error", result.errors or result.log[-1500:])
    ref = RunRef(kind=bench.kind, id="run_1", conn_id=bench.server.name, thread_id="thread_1")
    try:
        bench.hook.retrieve(ref)
    except RunNotFoundError:
        return
    raise AssertionError("the hook found it")


@case("tool call pending")
def tool_pending(bench: Bench) -> None:
    """Nobody is there to answer: the task fails with the call named, and the run is in XCom."""
    result = bench.run_dag("tool")
    check(result.state == "failed", "Dag run", f"{result.state} {result.xcoms}")
    text = result.errors.get("ToolCallsPendingError", "")
    check("weather(" in text, "error", result.errors or result.log[-1500:])
    check(result.xcoms["ask"]["tool_calls"], "tool_calls", result.xcoms["ask"])


@case("tool call answered")
def tool_answered(bench: Bench) -> None:
    """The hook answers the call, and the run goes on."""
    run = bench.until_over(bench.create(tools=[TOOL]))
    check(run.needs_action and run.tool_calls, "tool calls", run)
    outputs = {call.id: "18 degrees and sunny" for call in run.tool_calls}
    going_on = bench.hook.submit_tool_outputs(run, outputs, tools=[TOOL] if bench.kind is RESPONSE else None)
    ended = bench.hook.retrieve(bench.until_over(going_on).ref)
    check(ended.raw_status == "completed" and ended.output_text, "run", (ended.raw_status, ended.output_text))


def _answered_rounds(bench: Bench, prompt: str, rounds: int) -> None:
    bench.called()
    creates, submits = bench.creates(), bench.proxy.count(SUBMITS)
    result = bench.run_dag("function", prompt)
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check_completed(result.xcoms["ask"], result.log)
    called = bench.called()
    check(len(called) == rounds and all(called), "calls of the function", called)
    sent = bench.creates() - creates, bench.proxy.count(SUBMITS) - submits
    check(sent == ((1, rounds) if bench.kind is RUN else (1 + rounds, 0)), "creates, submits", sent)


@case("function called in the worker")
def function_called(bench: Bench) -> None:
    """A deferred task wakes, runs the function, answers, and waits again."""
    _answered_rounds(bench, PROMPT, 1)


@case("five rounds")
def five_rounds(bench: Bench) -> None:
    """The model calls again and again, and all of it is one run."""
    _answered_rounds(bench, ROUNDS_PROMPT, ROUNDS)


@case("outputs submitted by another task")
def outputs_submitted(bench: Bench) -> None:
    """One task ends with the calls, the next one answers them and waits."""
    result = bench.run_dag("submit")
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check(len(result.xcoms["ask"]["tool_calls"]) == 1, "tool_calls", result.xcoms["ask"])
    check_completed(result.xcoms["answer"], result.log)


@case("typed output")
def typed_output(bench: Bench) -> None:
    """The answer fits a JSON Schema, and is in XCom as an object."""
    result = bench.run_dag("typed", TYPED_PROMPT)
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check(result.xcoms["ask"]["output"]["sky"] in {"blue", "red"}, "output", result.xcoms["ask"])


def _two_hundred(bench: Bench, dag: str) -> None:
    before = bench.creates()
    items = [f"{PROMPT} This is question {number}." for number in range(_ITEMS)]
    with tempfile.TemporaryDirectory() as folder:
        result = bench.run_dag(dag, items=items, output_path=folder)
        check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
        found = [*read_results(result.xcoms["ask"], failed=True)]
        check(not any(item["error"] for item in found), "errors", {item["error"] for item in found})
        answered = [item["row"] for item in found if item["output_text"]]
    check(sorted(answered) == list(range(_ITEMS)), "rows with an answer", answered)
    check(bench.creates() == before + _ITEMS, "creates", bench.creates() - before)


@case("200 prompts from one task", RESPONSE)
def bulk(bench: Bench) -> None:
    """Each is paid for once and has its answer; the task holds its worker."""
    _two_hundred(bench, "bulk")


@case("200 prompts, deferred", RESPONSE)
def bulk_deferred(bench: Bench) -> None:
    """The same, where one trigger waits for all of them."""
    _two_hundred(bench, "bulk_deferred")


@case("lost create")
def lost_create(bench: Bench) -> None:
    """
    The answer to a create is lost: the run is adopted by its token, and paid once.

    There is no list of responses, so of one of those the error says what may be running.
    """
    before = bench.creates()
    bench.proxy.lose_next_answer(CREATES[bench.kind])
    result = bench.run_dag("wait")
    check(bench.creates() == before + 1, "creates", bench.creates() - before)
    if bench.kind is RESPONSE:
        check("LostCreateError" in result.errors, "error", result.errors or result.log[-1500:])
        return
    check(result.state == "success", "Dag run", f"{result.state} {result.errors}")
    check_completed(result.xcoms["ask"])
