# SPDX-License-Identifier: Apache-2.0
"""An agent whose words come from the language model of the server at ``LLM_URL``, one by one."""

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from pydantic_ai import Agent
from pydantic_ai.messages import UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

_DATA = "data: "


async def answer(messages: list[Any], info: AgentInfo) -> AsyncIterator[str]:
    """Hand the prompt on, and what the model says as it says it."""
    del info
    prompts = [p.content for m in messages for p in m.parts if isinstance(p, UserPromptPart)]
    body = {
        "messages": [{"role": "user", "content": str(prompts[-1])}],
        "stream": True,
        "temperature": 0.2,
        "max_tokens": 80,
    }
    url = f"{os.environ['LLM_URL']}/chat/completions"
    async with httpx2.AsyncClient(timeout=120) as client, client.stream("POST", url, json=body) as reply:
        reply.raise_for_status()
        async for line in reply.aiter_lines():
            if line.startswith(_DATA) and "[DONE]" not in line:
                for choice in json.loads(line.removeprefix(_DATA))["choices"]:
                    if word := choice["delta"].get("content"):
                        yield word


agent = Agent(FunctionModel(stream_function=answer))
