# SPDX-License-Identifier: Apache-2.0
"""A conversation: the items of responses, one response at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError, item_not_found
from airflow_provider_openai_runs.simulator.items import answers, questions

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.response import Response


@dataclass(slots=True, kw_only=True)
class Conversation:
    """A conversation; `latest` is the newest response in it.

    Input and output of a response appear among the items only after it has completed: call `settle` first.
    """

    id: str
    created_at: float
    metadata: dict[str, str]
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    latest: Response | None = None
    _settled: bool = True

    def add(self, items: list[dict[str, Any]]) -> None:
        """Append items."""
        self.items.update((item["id"], item) for item in items)

    def begin(self, response: Response) -> None:
        """Let a response work on the conversation."""
        self.latest = response
        self._settled = False

    def settle(self, now: float) -> None:
        """Take over the items of the latest response once it has ended with an answer."""
        if self._settled or self.latest is None or not self.latest.timeline.is_terminal(now):
            return
        self._settled = True
        if output := self.latest.output(now):
            self.add([*self.latest.input, *output])

    def open_questions(self, now: float) -> dict[str, dict[str, Any]]:
        """Index the calls and approval requests that nobody has answered yet."""
        self.settle(now)
        items = list(self.items.values())
        answered = answers(items)
        return {key: item for key, item in questions(items).items() if key not in answered}

    def check_unlocked(self, now: float) -> None:
        """Refuse a second response as long as one is at work."""
        self.settle(now)
        if not self._settled:
            raise ApiError(
                "Another process is currently operating on this conversation. Please retry in a few seconds.",
                code="conversation_locked",
            )

    def item(self, key: str, now: float) -> dict[str, Any]:
        """Find an item, or refuse its id."""
        self.settle(now)
        if key not in self.items:
            raise item_not_found("Item", key)
        return self.items[key]

    def render(self) -> dict[str, Any]:
        """Show the conversation as the API does."""
        return {
            "id": self.id,
            "object": "conversation",
            "created_at": int(self.created_at),
            "metadata": self.metadata,
        }
