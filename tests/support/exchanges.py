# SPDX-License-Identifier: Apache-2.0
"""
Conversations with the API, request by request: our own, and recorded ones for those who have them.

Ours are written by hand in the shape of the API. Recordings of real traffic lie beside the repository and are
no part of it; what is said of ours must be true of them, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
_T0 = 1_790_000_000

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request and its answer; ``path`` and ``query`` are without the base path ``/v1``."""

    method: str
    path: str
    query: str = ""
    sent: Any = None
    status: int = 200
    answer: Any


def exchanges(name: str) -> list[Exchange]:
    """Return a conversation by its name."""
    if name in OURS:
        return OURS[name]
    found = []
    for entry in json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["Entries"]:
        url = urlsplit(entry["RequestUri"])
        found.append(
            Exchange(
                method=entry["RequestMethod"],
                path=url.path.removeprefix("/v1"),
                query=url.query,
                sent=entry["RequestBody"],
                status=entry["StatusCode"],
                answer=entry["ResponseBody"],
            )
        )
    return found


def bodies(name: str, kind: str) -> list[Json]:
    """Return the objects of a kind that a conversation brought, in order."""
    return [one.answer for one in read(name) if one.answer.get("object") == kind]


def read(name: str) -> list[Exchange]:
    """Return a conversation without what was streamed."""
    return [one for one in exchanges(name) if isinstance(one.answer, dict)]


def conversations(*names: str) -> pytest.MarkDecorator:
    """Parametrise a test with ``name``; recordings are left out where there are none."""
    return pytest.mark.parametrize("name", [name for name in names if name in OURS or RECORDINGS.is_dir()])


# -- our own: the shapes -------------------------------------------------------------------------------------

_THREAD, _ASSISTANT, _RUN = "thread_harbour", "asst_pilot", "run_tide"
_NOTHING: Json = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
_DETAILS: Json = {
    "prompt_token_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}


def _run(status: str, *, tools: list[Json] | None = None, **changes: Any) -> Json:
    ended = status == "completed"
    usage = {"prompt_tokens": 31, "completion_tokens": 12, "total_tokens": 43, **_DETAILS}
    return {
        "id": _RUN,
        "object": "thread.run",
        "created_at": _T0,
        "assistant_id": _ASSISTANT,
        "thread_id": _THREAD,
        "status": status,
        "started_at": None if status == "queued" else _T0 + 1,
        "expires_at": None if ended else _T0 + 600,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": _T0 + 4 if ended else None,
        "required_action": None,
        "last_error": None,
        "incomplete_details": None,
        "usage": usage if ended else None,
        "metadata": {},
        "model": "gpt-4o-mini",
        "instructions": None,
        "tools": tools or [],
        "tool_resources": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        **changes,
    }


def _assistant(*tools: Json) -> Json:
    return {
        "id": _ASSISTANT,
        "object": "assistant",
        "created_at": _T0 - 9,
        "name": None,
        "description": None,
        "model": "gpt-4o-mini",
        "instructions": None,
        "tools": list(tools),
        "top_p": 1.0,
        "temperature": 1.0,
        "reasoning_effort": None,
        "tool_resources": {},
        "metadata": {},
        "response_format": "auto",
    }


def _thread() -> Json:
    return {
        "id": _THREAD,
        "object": "thread",
        "created_at": _T0 - 5,
        "metadata": {},
        "tool_resources": {},
    }


def _page(*items: Json, has_more: bool = False) -> Json:
    ids = [item["id"] for item in items] or [None]
    return {
        "object": "list",
        "data": list(items),
        "first_id": ids[0],
        "last_id": ids[-1],
        "has_more": has_more,
    }


def _message(number: int, text: str, *, answers: bool = False) -> Json:
    return {
        "id": f"msg_{number}",
        "object": "thread.message",
        "created_at": _T0 + number,
        "assistant_id": _ASSISTANT if answers else None,
        "thread_id": _THREAD,
        "run_id": _RUN if answers else None,
        "role": "assistant" if answers else "user",
        "content": [{"type": "text", "text": {"value": text, "annotations": []}}],
        "attachments": [],
        "metadata": {},
    }


def _step(number: int, details: Json, **usage: int) -> Json:
    return {
        "id": f"step_{number}",
        "object": "thread.run.step",
        "created_at": _T0 + number,
        "run_id": _RUN,
        "assistant_id": _ASSISTANT,
        "thread_id": _THREAD,
        "type": details["type"],
        "status": "completed",
        "cancelled_at": None,
        "completed_at": _T0 + number,
        "expires_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": details,
        "usage": {**_NOTHING, **usage, **_DETAILS},
    }


def _wrote(message: str) -> Json:
    return {"type": "message_creation", "message_creation": {"message_id": message}}


def _computed(number: int) -> Json:
    code = {"input": f"height({number})", "outputs": []}
    call = {"id": f"call_{number}", "type": "code_interpreter", "code_interpreter": code}
    return {"type": "tool_calls", "tool_calls": [call]}


def _response(id_: str, status: str, *output: Json, **changes: Any) -> Json:
    ended = status in {"completed", "incomplete"}
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 29,
    }
    return {
        "id": id_,
        "object": "response",
        "created_at": _T0,
        "status": status,
        "background": False,
        "billing": {"payer": "developer"},
        "completed_at": _T0 + 2 if status == "completed" else None,
        "error": None,
        "incomplete_details": None,
        "output": list(output),
        "service_tier": "default" if ended else "auto",
        "store": True,
        "usage": usage if ended else None,
        "metadata": {},
        "frequency_penalty": 0.0,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4o-mini",
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "safety_identifier": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "user": None,
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tools": [],
        **changes,
    }


def _said(text: str, *, status: str = "completed") -> Json:
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    return {
        "id": "msg_said",
        "type": "message",
        "status": status,
        "content": [part],
        "role": "assistant",
    }


# -- our own: what was said ----------------------------------------------------------------------------------

_RUNS = f"/threads/{_THREAD}/runs"
_ONE = f"{_RUNS}/{_RUN}"
_MESSAGES = f"/threads/{_THREAD}/messages"


def _get(path: str, answer: Json, query: str = "") -> Exchange:
    return Exchange(method="GET", path=path, query=query, answer=answer)


def _post(path: str, sent: Json | None, answer: Json) -> Exchange:
    return Exchange(method="POST", path=path, sent=sent, answer=answer)


_CREATED = _post("/assistants", {"model": "gpt-4o-mini"}, _assistant())
_QUESTION = _message(0, "When is high water in Hamburg?")
_ANSWER = _message(4, "High water is at 14:20.", answers=True)
_ASKED: Json = {"role": "user", "content": "When is high water in Hamburg?"}

THREAD_RUN = [
    _CREATED,
    _post("/threads", {}, _thread()),
    _get(_RUNS, _page()),
    _post(_MESSAGES, _ASKED, _QUESTION),
    _post(_RUNS, {"assistant_id": _ASSISTANT}, _run("queued")),
    _get(_ONE, _run("queued")),
    _get(_RUNS, _page(_run("queued"))),
    _get(_ONE, _run("in_progress")),
    _get(_ONE, _run("completed")),
    _get(_MESSAGES, _page(_ANSWER, _QUESTION)),
    _get(f"{_ONE}/steps", _page(_step(4, _wrote("msg_4"), prompt_tokens=31, total_tokens=43))),
]

_STEPS = [_step(4, _wrote("msg_4"), total_tokens=43), *(_step(n, _computed(n)) for n in (3, 2, 1))]
STEPS_ON_TWO_PAGES = [
    _CREATED,
    _post("/threads", {"messages": [_ASKED]}, _thread()),
    _post(_RUNS, {"assistant_id": _ASSISTANT}, _run("queued")),
    _get(_ONE, _run("in_progress")),
    _get(_ONE, _run("completed")),
    _get(f"{_ONE}/steps", _page(*_STEPS[:2], has_more=True), query="limit=2"),
    _get(f"{_ONE}/steps", _page(*_STEPS[2:]), query="limit=2&after=step_3"),
]

_PARAMETERS: Json = {
    "type": "object",
    "properties": {"harbour": {"type": "string", "description": "a harbour on the Elbe"}},
    "required": ["harbour"],
}
_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "get_high_water",
        "description": "look up when it is high water in a harbour",
        "parameters": _PARAMETERS,
        "strict": False,
    },
}
_CALL: Json = {
    "id": "call_tide",
    "type": "function",
    "function": {"name": "get_high_water", "arguments": '{"harbour":"Hamburg"}'},
}
_NEEDED: Json = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [_CALL]}}
_OUTPUTS: Json = {"tool_outputs": [{"tool_call_id": "call_tide", "output": "14:20"}]}
FUNCTION_CALL = [
    _post("/assistants", {"model": "gpt-4o-mini", "tools": [_TOOL]}, _assistant(_TOOL)),
    _post(
        "/threads/runs",
        {"assistant_id": _ASSISTANT, "thread": {"messages": [_ASKED]}},
        _run("queued", tools=[_TOOL]),
    ),
    _get(_ONE, _run("in_progress", tools=[_TOOL])),
    _get(_ONE, _run("requires_action", tools=[_TOOL], required_action=_NEEDED)),
    _get(_ONE, _run("requires_action", tools=[_TOOL], required_action=_NEEDED)),
    _post(f"{_ONE}/submit_tool_outputs", _OUTPUTS, _run("queued", tools=[_TOOL], started_at=_T0 + 1)),
    _get(_ONE, _run("in_progress", tools=[_TOOL])),
    _get(_ONE, _run("completed", tools=[_TOOL])),
    _get(_MESSAGES, _page(_ANSWER, _QUESTION), query="order=desc"),
]

_PLAIN: Json = {"model": "gpt-4o-mini", "input": "Name a river."}
RESPONSE = [_post("/responses", _PLAIN, _response("resp_river", "completed", _said("The Elbe.")))]

BACKGROUND = [
    # Its create was streamed, as in the recording.
    Exchange(
        method="POST", path="/responses", sent={**_PLAIN, "background": True, "stream": True}, answer=[]
    ),
    _get("/responses/resp_slow", _response("resp_slow", "completed", _said("The Weser."), background=True)),
]

CANCELLED = [
    _post(
        "/responses",
        {**_PLAIN, "background": True},
        _response("resp_stopped", "queued", background=True),
    ),
    _post("/responses/resp_stopped/cancel", None, _response("resp_stopped", "cancelled", background=True)),
]

CEILING = [
    _post(
        "/responses",
        {"model": "gpt-4o-mini", "input": "List every lighthouse.", "max_output_tokens": 20},
        _response(
            "resp_cut",
            "incomplete",
            _said("Alte Weser, Roter Sand, Neuwerk, Amr", status="incomplete"),
            incomplete_details={"reason": "max_output_tokens"},
            max_output_tokens=20,
        ),
    )
]

_FLAT: Json = {
    "type": "function",
    "name": "get_depth_at_pier",
    "description": "look up how deep the water is at a pier",
    "parameters": {
        "type": "object",
        "properties": {"pier": {"type": "string"}, "unit": {"enum": ["m", "ft"], "type": "string"}},
        "required": ["pier"],
    },
    "strict": False,
}
_CALLS: Json = {
    "id": "fc_depth",
    "type": "function_call",
    "status": "completed",
    "arguments": '{"pier":"North","unit":"m"}',
    "call_id": "call_depth",
    "name": "get_depth_at_pier",
}
ONLY_A_CALL = [
    _post(
        "/responses",
        {
            "model": "gpt-4o-mini",
            "input": "How deep is it at the north pier?",
            "tools": [_FLAT],
            "tool_choice": {"type": "function", "name": "get_depth_at_pier"},
        },
        _response(
            "resp_depth",
            "completed",
            _CALLS,
            tools=[_FLAT],
            tool_choice={"type": "function", "name": "get_depth_at_pier"},
        ),
    )
]

_MCP: Json = {
    "type": "mcp",
    "server_label": "locks",
    "server_url": "https://locks.example/mcp",
    "require_approval": "always",
}
_SHOWN: Json = {**_MCP, "allowed_tools": None, "headers": None}
_ASKS: Json = {
    "id": "mcpr_open",
    "type": "mcp_approval_request",
    "arguments": '{"lock":3}',
    "name": "open_lock",
    "server_label": "locks",
}
_DECIDED: Json = {"type": "mcp_approval_response", "approval_request_id": "mcpr_open", "approve": True}
APPROVAL = [
    _post(
        "/responses",
        {"model": "gpt-4o-mini", "tools": [_MCP], "input": "Open lock 3."},
        _response("resp_asks", "completed", _ASKS, tools=[_SHOWN]),
    ),
    _post(
        "/responses",
        {
            "previous_response_id": "resp_asks",
            "model": "gpt-4o-mini",
            "tools": [_MCP],
            "input": [_DECIDED],
        },
        _response(
            "resp_opened",
            "completed",
            _said("Lock 3 is open."),
            tools=[_SHOWN],
            previous_response_id="resp_asks",
        ),
    ),
]

OURS: dict[str, list[Exchange]] = {
    "our thread run": THREAD_RUN,
    "our steps on two pages": STEPS_ON_TWO_PAGES,
    "our function call": FUNCTION_CALL,
    "our response": RESPONSE,
    "our background response": BACKGROUND,
    "our cancelled response": CANCELLED,
    "our ceiling": CEILING,
    "our only a call": ONLY_A_CALL,
    "our approval": APPROVAL,
}
