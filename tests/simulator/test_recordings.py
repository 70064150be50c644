# SPDX-License-Identifier: Apache-2.0
"""The simulator against conversations with the API: it follows them through the same statuses and shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario
from tests.support import exchanges
from tests.support.exchanges import conversations

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

_FREE = frozenset({"metadata", "parameters", "reasoning", "tool_resources"})
_NEWER = frozenset(
    {"billing", "completed_at", "frequency_penalty", "presence_penalty", "prompt_cache_retention"}
)
_TIED_TO_THE_MODEL = frozenset({"mcp_list_tools", "reasoning"})


def at_once(**more: Any) -> Scenario:
    """Script a response that was recorded as a synchronous one."""
    return Scenario(queued=0, in_progress=0, **more)


CASES = {
    "our thread run": Scenario(),
    "our steps on two pages": Scenario(steps=3),
    "our function call": None,
    "our response": at_once(),
    "our cancelled response": Scenario(),
    "our ceiling": at_once(text="lighthouse " * 50),
    "our only a call": at_once(function_calls=((FunctionCall(name="get_depth_at_pier"),),)),
    "our approval": at_once(mcp_approval=FunctionCall(name="open_lock")),
    "AssistantsTests/BasicRunOperationsWork": Scenario(),
    "AssistantsTests/BasicRunStepFunctionalityWorks": Scenario(steps=11),
    "AssistantsTests/FunctionToolsWork": None,
    "AssistantsTests/Pagination_CanRehydrateRunStepPageCollectionFromBytes": Scenario(steps=3),
    "AssistantsTests/SettingResponseFormatWorks": Scenario(),
    "AssistantsTests/ThreadWithInitialMessagesWorks": None,
    "ConversationTests/CanCreateGetUpdateAndDeleteConversation": None,
    "ConversationTests/ConversationItemEndpointsAcceptIncludeQuery": None,
    "ResponseStoreTests/GetInputItemsCollectionPage": at_once(),
    "ResponseStoreTests/GetInputItemsWithOrderFiltering": at_once(),
    "ResponsesTests/CanCancelBackgroundResponses": Scenario(),
    "ResponsesTests/FunctionToolChoiceWorks": at_once(
        function_calls=((FunctionCall(name="get_weather_at_location"),),),
    ),
    "ResponsesTests/MaxTokens": at_once(text="fruit " * 50),
    "ResponsesTests/MessageHistoryWorks": at_once(),
    "ResponsesToolTests/MCPToolAlwaysRequiresApproval_False": at_once(
        mcp_approval=FunctionCall(name="roll"),
    ),
}


class Replay:
    """Sends recorded requests, with the simulator's ids in the place of OpenAI's."""

    def __init__(self, http: httpx2.Client, simulator: Simulator) -> None:
        self._http = http
        self._simulator = simulator
        self._ids: dict[str, str] = {}

    def exchanges(self, name: str) -> Iterator[tuple[str, Any, Any]]:
        for one in exchanges.read(name):
            if one.path.startswith("/files"):
                continue
            self._wait_for(one.answer)
            content = None if one.sent is None else self._translated(json.dumps(one.sent))
            url = f"{one.path}?{one.query}" if one.query else one.path
            answer = self._http.request(one.method, self._translated(url), content=content)
            assert answer.status_code == one.status, answer.text
            self._learn(one.answer, answer.json())
            yield f"{one.method} {url}", one.answer, answer.json()

    def _wait_for(self, recorded: Any) -> None:
        """Let time pass until the run has the status that was recorded."""
        for _ in range(20):
            followed = recorded.get("object") == "thread.run" and recorded["id"] in self._ids
            if not followed or self._simulator.runs()[-1]["status"] == recorded["status"]:
                return
            if recorded["status"] == "queued":
                return
            self._simulator.advance(0.1)

    def _translated(self, text: str) -> str:
        for theirs, ours in self._ids.items():
            text = text.replace(theirs, ours)
        return text

    def _learn(self, recorded: Any, simulated: Any) -> None:
        if isinstance(recorded, dict) and isinstance(simulated, dict):
            for key, value in recorded.items():
                if key.endswith("id") and value and simulated.get(key):
                    self._ids[value] = simulated[key]
                self._learn(value, simulated.get(key))
        elif isinstance(recorded, list) and isinstance(simulated, list):
            for theirs, ours in _pairs(recorded, simulated):
                self._learn(theirs, ours)


def _pairs(recorded: list[Any], simulated: list[Any]) -> Iterator[tuple[Any, Any]]:
    kept = [i for i in recorded if not (isinstance(i, dict) and i.get("type") in _TIED_TO_THE_MODEL)]
    return zip(kept, simulated, strict=False)


def _type(item: Any) -> Any:
    return item.get("type") if isinstance(item, dict) else None


def differences(recorded: Any, simulated: Any, where: str = "") -> Iterator[str]:
    """Name the keys and types in which a simulated answer differs from a recorded one."""
    if isinstance(recorded, dict) and isinstance(simulated, dict):
        newer = _NEWER if recorded.get("object") == "response" else frozenset()
        for key in sorted(set(recorded) ^ set(simulated) - newer):
            if key not in newer:
                yield f"{where}.{key} is {'missing' if key in recorded else 'invented'}"
        for key in set(recorded) & set(simulated) - _FREE:
            yield from differences(recorded[key], simulated[key], f"{where}.{key}")
    elif isinstance(recorded, list) and isinstance(simulated, list):
        if where.endswith((".data", ".output")) and bool(recorded) != bool(simulated):
            yield f"{where} has {len(simulated)} items instead of {len(recorded)}"
        for theirs, ours in _pairs(recorded, simulated):
            if _type(theirs) == _type(ours):
                yield from differences(theirs, ours, f"{where}[]")
    elif type(recorded) is not type(simulated):
        yield f"{where} is {simulated!r} instead of {recorded!r}"


@pytest.mark.usefixtures("time_stands_still")
@conversations(*CASES)
def test_answers_have_the_form_of_recorded_ones(http: httpx2.Client, simulator: Simulator, name: str) -> None:
    if (scenario := CASES[name]) is not None:
        simulator.script(scenario)
    for request, recorded, simulated in Replay(http, simulator).exchanges(name):
        found = list(differences(recorded, simulated))
        assert found == [], f"{request}: {found}"
        assert simulated.get("status") == recorded.get("status"), request
