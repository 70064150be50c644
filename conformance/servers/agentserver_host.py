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
    """Play the agent: "sleep=5" in the prompt takes as long, a function on offer is called once."""
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
    answered = any(item.get("type") == "function_call_output" for item in await context.get_input_items())
    tools = request.get("tools") or []
    if tools and not answered:
        for event in stream.output_item_function_call(tools[0]["name"], "call_1", '{"city": "Paris"}'):
            yield event
    else:
        for event in stream.output_item_message("Small molecules scatter short waves."):
            yield event
    yield stream.emit_completed()


logging.disable(logging.INFO)
host.run(host="127.0.0.1", port=int(sys.argv[1]))
