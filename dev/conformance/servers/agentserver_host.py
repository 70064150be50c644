# SPDX-License-Identifier: Apache-2.0
"""The host of Azure's hosted agents, around an agent without a language model."""

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

from azure.ai.agentserver.responses import ResponseEventStream, ResponsesAgentServerHost

host = ResponsesAgentServerHost()


@host.response_handler  # type: ignore[untyped-decorator]  # where it is not installed
async def answer(request: Any, context: Any, cancelled: asyncio.Event) -> AsyncIterator[Any]:
    """Play the agent: "sleep=5" in the prompt takes as long, a function is called once or in "rounds=5"."""
    stream = ResponseEventStream(response_id=context.response_id, request=request)
    yield stream.emit_created()
    yield stream.emit_in_progress()
    found = re.search(r"sleep=([\d.]+)", await context.get_input_text() or "")
    try:
        await asyncio.wait_for(cancelled.wait(), float(found.group(1)) if found else 0.4)
    except TimeoutError:
        pass
    else:
        return
    items = [*await context.get_history(), *await context.get_input_items()]
    answered = sum(item.get("type") == "function_call_output" for item in items)
    rounds = re.search(r"rounds=(\d+)", str(items))
    tools = request.get("tools") or []
    if tools and answered < (int(rounds.group(1)) if rounds else 1):
        call = f"call_{answered}"
        for event in stream.output_item_function_call(tools[0]["name"], call, '{"city": "Paris"}'):
            yield event
    elif "JSON" in (await context.get_input_text() or ""):
        for event in stream.output_item_message('{"sky": "blue"}'):
            yield event
    else:
        for event in stream.output_item_message("Small molecules scatter short waves."):
            yield event
    yield stream.emit_completed()


logging.disable(logging.INFO)
host.run(host="127.0.0.1", port=int(sys.argv[1]))
