# SPDX-License-Identifier: Apache-2.0
"""
An agent without a language model.

"sleep=5" in the prompt takes as long, "JSON" is answered in JSON; a function is called once, or in
"rounds=5".
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

WORDS = ("Small ", "molecules ", "scatter ", "short ", "waves.")


async def answer(messages: list[Any], info: AgentInfo) -> AsyncIterator[Any]:
    """Play the model."""
    parts = [part for message in messages for part in message.parts]
    prompts = [str(part.content) for part in parts if isinstance(part, UserPromptPart)]
    rounds = re.search(r"rounds=(\d+)", " ".join(prompts))
    answered = sum(isinstance(part, ToolReturnPart) for part in parts)
    again = answered < int(rounds.group(1)) if rounds else not isinstance(parts[-1], ToolReturnPart)
    if info.function_tools and again:
        yield {0: DeltaToolCall(name=info.function_tools[0].name, json_args='{"city": "Paris"}')}
        return
    if prompts and "JSON" in prompts[-1]:
        yield '{"sky": "blue"}'
        return
    found = re.search(r"sleep=([\d.]+)", prompts[-1] if prompts else "")
    for word in WORDS:
        await asyncio.sleep((float(found.group(1)) if found else 0.4) / len(WORDS))
        yield word


agent = Agent(FunctionModel(stream_function=answer))
