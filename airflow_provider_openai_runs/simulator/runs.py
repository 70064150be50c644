# SPDX-License-Identifier: Apache-2.0
"""Routes of thread runs and their steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator import thread_checks as checks
from airflow_provider_openai_runs.simulator import validation as v
from airflow_provider_openai_runs.simulator.answers import answer, text_of
from airflow_provider_openai_runs.simulator.assistants import thread_tools
from airflow_provider_openai_runs.simulator.citations import of_thread_run
from airflow_provider_openai_runs.simulator.errors import missing, not_found
from airflow_provider_openai_runs.simulator.exchange import ApiReply
from airflow_provider_openai_runs.simulator.ids import new_id
from airflow_provider_openai_runs.simulator.include import (
    STEP_INCLUDABLE,
    check_include,
    step_without_extras,
)
from airflow_provider_openai_runs.simulator.pagination import page
from airflow_provider_openai_runs.simulator.run import ThreadRun
from airflow_provider_openai_runs.simulator.run_results import produced_files
from airflow_provider_openai_runs.simulator.threads import new_thread

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.exchange import ApiRequest, Handler
    from airflow_provider_openai_runs.simulator.store import Store
    from airflow_provider_openai_runs.simulator.thread import Thread

_TOOLS = 20
_LEAST_TOKENS = 256
_IN_A_NEW_THREAD: dict[str, v.Check] = {
    "assistant_id": v.string,
    "thread": v.mapping,
    "model": v.model,
    "instructions": v.string,
    "tools": v.array(_TOOLS, checks.tool),
    "tool_resources": v.mapping,
    "metadata": v.metadata,
    "temperature": v.number(0, 2),
    "top_p": v.number(0, 1),
    "stream": v.boolean,
    "max_prompt_tokens": v.number(_LEAST_TOKENS, integer=True),
    "max_completion_tokens": v.number(_LEAST_TOKENS, integer=True),
    "truncation_strategy": v.mapping,
    "tool_choice": checks.tool_choice,
    "parallel_tool_calls": v.boolean,
    "response_format": checks.response_format,
}
_IN_A_THREAD: dict[str, v.Check] = {
    **{name: rule for name, rule in _IN_A_NEW_THREAD.items() if name not in ("thread", "tool_resources")},
    "additional_instructions": v.string,
    "additional_messages": v.array(item=checks.message),
    "reasoning_effort": v.string,
}


def _parameters(body: dict[str, Any], assistant: dict[str, Any]) -> dict[str, Any]:
    """Work out the fields that a run merely echoes: its own, else the assistant's."""

    def chosen(name: str, default: Any = None) -> Any:
        value = body.get(name)
        return value if value is not None else assistant.get(name, default)

    instructions = [chosen("instructions"), body.get("additional_instructions")]
    return {
        "model": chosen("model"),
        "instructions": "\n".join(text for text in instructions if text) or None,
        "tools": thread_tools(chosen("tools")),
        "tool_resources": body.get("tool_resources") or {},
        "temperature": chosen("temperature"),
        "top_p": chosen("top_p"),
        "reasoning_effort": chosen("reasoning_effort"),
        "max_completion_tokens": body.get("max_completion_tokens"),
        "max_prompt_tokens": body.get("max_prompt_tokens"),
        "truncation_strategy": {
            "type": "auto",
            "last_messages": None,
            **(body.get("truncation_strategy") or {}),
        },
        "response_format": chosen("response_format"),
        "tool_choice": chosen("tool_choice", "auto"),
        "parallel_tool_calls": chosen("parallel_tool_calls", default=True),
    }


def _start(store: Store, thread: Thread, body: dict[str, Any], now: float) -> ApiReply:
    """Create a run on an idle thread."""
    parameters = _parameters(body, store.assistant(body["assistant_id"]))
    texts = [text_of(message["content"]) for message in thread.messages.values()]
    prompt = "\n".join([parameters["instructions"] or "", *texts])
    offered = parameters["tools"] if parameters["tool_choice"] != "none" else []
    functions = [tool["function"] for tool in offered if tool["type"] == "function"]
    scenario = store.scenario_for(
        "\n".join([parameters["instructions"] or "", *texts[-1:]]),
        functions=functions,
    )
    key = new_id("run")
    run = ThreadRun(
        id=key,
        thread_id=thread.id,
        assistant_id=body["assistant_id"],
        created_at=now,
        parameters=parameters,
        metadata=body.get("metadata") or {},
        scenario=scenario,
        answer=answer(
            scenario,
            prompt=prompt,
            question=texts[-1] if texts else "",
            citations=of_thread_run(key, scenario.output),
            text_format=parameters["response_format"],
            ceiling=parameters["max_completion_tokens"],
            ceiling_name="max_completion_tokens",
        ),
        speed=store.options.speed,
    )
    thread.add_run(run)
    store.history.append(run)
    store.files.update((file.id, file) for file in produced_files(run))
    return _reply(run)


def _reply(run: ThreadRun) -> ApiReply:
    wait = run.scenario.poll_after_ms
    return ApiReply(body=run.render, headers={} if wait is None else {"openai-poll-after-ms": str(wait)})


def create_run(store: Store, request: ApiRequest) -> ApiReply:
    """POST /threads/{id}/runs."""
    check_include(request.include, STEP_INCLUDABLE)
    thread = store.thread(request.ids["thread_id"])
    v.check(request.body, _IN_A_THREAD, required=("assistant_id",))
    store.assistant(request.body["assistant_id"])
    thread.check_idle(request.now)
    for message in request.body.get("additional_messages") or ():
        thread.add_message(message, request.now)
    return _start(store, thread, request.body, request.now)


def create_thread_and_run(store: Store, request: ApiRequest) -> ApiReply:
    """POST /threads/runs."""
    v.check(request.body, _IN_A_NEW_THREAD, required=("assistant_id",))
    store.assistant(request.body["assistant_id"])
    thread = new_thread(store, request.body.get("thread") or {}, request.now)
    return _start(store, thread, request.body, request.now)


def list_runs(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}/runs."""
    runs = store.thread(request.ids["thread_id"]).runs
    keys = [key for key, run in runs.items() if run.is_visible(request.now)]
    return page(keys, request.query, lambda key: runs[key].render(request.now))


def _find(store: Store, request: ApiRequest) -> ThreadRun:
    return store.thread(request.ids["thread_id"]).run(request.ids["run_id"], request.now)


def retrieve_run(store: Store, request: ApiRequest) -> ApiReply:
    """GET /threads/{id}/runs/{id}."""
    return _reply(_find(store, request))


def update_run(store: Store, request: ApiRequest) -> ApiReply:
    """POST /threads/{id}/runs/{id}: the metadata."""
    run = _find(store, request)
    v.check(request.body, {"metadata": v.metadata})
    if request.body.get("metadata") is not None:
        run.metadata = request.body["metadata"]
    return _reply(run)


def cancel_run(store: Store, request: ApiRequest) -> ApiReply:
    """POST /threads/{id}/runs/{id}/cancel."""
    run = _find(store, request)
    run.cancel(request.now)
    return _reply(run)


def submit_tool_outputs(store: Store, request: ApiRequest) -> ApiReply:
    """POST /threads/{id}/runs/{id}/submit_tool_outputs: all outputs in one call."""
    run = _find(store, request)
    parameters: dict[str, v.Check] = {"tool_outputs": v.array(item=v.mapping), "stream": v.boolean}
    v.check(request.body, parameters, required=("tool_outputs",))
    outputs = {}
    for index, output in enumerate(request.body["tool_outputs"]):
        if not output.get("tool_call_id"):
            raise missing(f"tool_outputs[{index}].tool_call_id")
        outputs[output["tool_call_id"]] = output.get("output") or ""
    run.submit(request.now, outputs)
    return _reply(run)


def list_steps(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}/runs/{id}/steps."""
    check_include(request.include, STEP_INCLUDABLE)
    steps = {step["id"]: step for step in _find(store, request).steps(request.now)}
    return page(list(steps), request.query, lambda key: step_without_extras(steps[key], request.include))


def retrieve_step(store: Store, request: ApiRequest) -> dict[str, Any]:
    """GET /threads/{id}/runs/{id}/steps/{id}."""
    key = request.ids["step_id"]
    found = next((step for step in _find(store, request).steps(request.now) if step["id"] == key), None)
    if found is None:
        raise not_found("step", key)
    check_include(request.include, STEP_INCLUDABLE)
    return step_without_extras(found, request.include)


_RUN = "/threads/{thread_id}/runs/{run_id}"
ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", _RUN, retrieve_run),
    ("POST", "/threads/runs", create_thread_and_run),
    ("POST", "/threads/{thread_id}/runs", create_run),
    ("GET", "/threads/{thread_id}/runs", list_runs),
    ("POST", _RUN, update_run),
    ("POST", f"{_RUN}/cancel", cancel_run),
    ("POST", f"{_RUN}/submit_tool_outputs", submit_tool_outputs),
    ("GET", f"{_RUN}/steps", list_steps),
    ("GET", f"{_RUN}/steps/{{step_id}}", retrieve_step),
]
