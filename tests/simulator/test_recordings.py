# SPDX-License-Identifier: Apache-2.0
"""The simulator against recorded traffic: it follows the same requests through the same statuses and shapes.

The recordings lie beside the repository and are no part of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_openai_runs.simulator import FunctionCall, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
_FREE = frozenset({"metadata", "parameters", "reasoning", "tool_resources"})
_NEWER = frozenset(
    {"billing", "completed_at", "frequency_penalty", "presence_penalty", "prompt_cache_retention"}
)
_TIED_TO_THE_MODEL = frozenset({"mcp_list_tools", "reasoning"})

pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the recordings are not beside the repository"
)


def at_once(**more: Any) -> Scenario:
    """Script a response that was recorded as a synchronous one."""
    return Scenario(queued=0, in_progress=0, **more)


CASES = {
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
        recording = json.loads((RECORDINGS / f"{name}.json").read_text())
        for entry in recording["Entries"]:
            url = entry["RequestUri"].removeprefix("https://api.openai.com/v1")
            if url.startswith("/files"):
                continue
            recorded = entry["ResponseBody"]
            self._wait_for(recorded)
            body = entry["RequestBody"]
            content = None if body is None else self._translated(json.dumps(body))
            answer = self._http.request(entry["RequestMethod"], self._translated(url), content=content)
            assert answer.status_code == entry["StatusCode"], answer.text
            self._learn(recorded, answer.json())
            yield f"{entry['RequestMethod']} {url}", recorded, answer.json()

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
@pytest.mark.parametrize("name", CASES)
def test_answers_look_like_recorded_ones(http: httpx2.Client, simulator: Simulator, name: str) -> None:
    if (scenario := CASES[name]) is not None:
        simulator.script(scenario)
    for request, recorded, simulated in Replay(http, simulator).exchanges(name):
        found = list(differences(recorded, simulated))
        assert found == [], f"{request}: {found}"
        assert simulated.get("status") == recorded.get("status"), request
