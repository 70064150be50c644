# SPDX-License-Identifier: Apache-2.0
"""What the plain SDK is asked for where a server cannot do a case: if it gets it, the server can."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openai


def retrieves(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a response that was created can be read."""
    made = client.responses.create(model=model, input="Hello.", background=True, store=True)
    return client.responses.retrieve(made.id).id == made.id


def calls_a_function(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a model calls the function that it is offered."""
    parameters: dict[str, object] = {"type": "object", "properties": {"city": {"type": "string"}}}
    made = client.responses.create(
        model=model,
        input="What is the weather in Paris?",
        tools=[{"type": "function", "name": "weather", "parameters": parameters, "strict": False}],
        temperature=0,
    )
    return any(item.type == "function_call" for item in made.output)


def goes_on(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a response can go on from another one."""
    first = client.responses.create(model=model, input="Hello.")
    return bool(client.responses.create(model=model, input="Go on.", previous_response_id=first.id).output)


def _answers_thread(client: openai.OpenAI, model: str, answers: int, **more: object) -> str:
    """Run a thread, answer its calls so often, and return its status or, if it has completed, its text."""
    headers = {"OpenAI-Beta": "assistants=v2"}

    def ask(path: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        options: Any = {"headers": headers}
        if body is None:
            return client.get(path, cast_to=dict[str, Any], options=options)
        return client.post(path, cast_to=dict[str, Any], body=body, options=options)

    assistant, thread = ask("/assistants", {"model": model})["id"], ask("/threads", {})["id"]
    ask(f"/threads/{thread}/messages", {"role": "user", "content": "What is the weather in Paris?"})
    run = ask(f"/threads/{thread}/runs", {"assistant_id": assistant, **more})
    while run["status"] not in {"completed", "failed", "cancelled", "expired"}:
        time.sleep(0.2)
        run = ask(f"/threads/{thread}/runs/{run['id']}")
        if run["status"] == "requires_action":
            if not answers:
                return "requires_action"
            answers -= 1
            calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
            outputs = [{"tool_call_id": call["id"], "output": "sunny"} for call in calls]
            run = ask(f"/threads/{thread}/runs/{run['id']}/submit_tool_outputs", {"tool_outputs": outputs})
    said = ask(f"/threads/{thread}/messages")["data"]
    return next(str(m["content"][0]["text"]["value"]) for m in said if m["role"] == "assistant")


def calls_again(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a run calls a function again after an answer."""
    function = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    return _answers_thread(client, model, 1, tools=tools) == "requires_action"


def thread_heeds_a_format(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a run answers in JSON where it must."""
    return _is_json(_answers_thread(client, model, 0, response_format={"type": "json_object"}))


def heeds_a_format(client: openai.OpenAI, model: str) -> bool:
    """Ask whether a response is of the schema that it was asked for."""
    schema: dict[str, object] = {"type": "object", "properties": {"sky": {"enum": ["blue", "red"]}}}
    made = client.responses.create(
        model=model,
        input="Which colour is the sky? Answer in JSON.",
        text={"format": {"type": "json_schema", "name": "sky", "schema": schema}},
    )
    return _is_json("".join(part.text for item in made.output for part in item.content))  # type: ignore[union-attr]


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
