# SPDX-License-Identifier: Apache-2.0
"""
For mitmproxy, in front of a server: paths and keys as Azure has them, and every second poll fails.

It runs in an environment of its own: ``mitmdump --script`` loads it.
"""

from __future__ import annotations

import asyncio
import os
from itertools import cycle

from mitmproxy import http

_AZURE = "/openai/v1"
_UPSTREAM = os.environ["UPSTREAM_PATH"]
_SECONDS = 0.5
_ERROR = 400
_FAULTS = cycle(("500", "", "429", "", "kill", "", "slow", "", "half", ""))
_BODY = b'{"error": {"message": "injected", "type": "server_error", "code": null, "param": null}}'


async def request(flow: http.HTTPFlow) -> None:
    """Refuse what Azure would refuse, and let a poll fail on the way there; a create is only late."""
    asked = flow.request
    key = asked.headers.pop("api-key", "")
    if not (key and asked.path.startswith(f"{_AZURE}/") and "api-version" in asked.query):
        flow.response = http.Response.make(401, _BODY, {"content-type": "application/json"})
        return
    asked.headers["authorization"] = f"Bearer {key}"
    del asked.query["api-version"]
    asked.path = _UPSTREAM + asked.path.removeprefix(_AZURE)
    fault = next(_FAULTS) if asked.method == "GET" else "slow"
    flow.metadata["fault"] = fault
    match fault:
        case "500" | "429":
            headers = {"content-type": "application/json", "retry-after-ms": "50"}
            flow.response = http.Response.make(int(fault), _BODY, headers)
        case "kill":
            flow.kill()
        case "slow":
            await asyncio.sleep(_SECONDS)


def response(flow: http.HTTPFlow) -> None:
    """Cut an answer in half; of an error, what is wrong stands in it."""
    answer = flow.response
    if flow.metadata.get("fault") == "half" and answer and answer.content and answer.status_code < _ERROR:
        answer.content = answer.content[: len(answer.content) // 2]
