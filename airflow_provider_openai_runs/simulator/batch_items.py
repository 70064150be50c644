# SPDX-License-Identifier: Apache-2.0
"""The requests of a batch, once they are executed, and what they sum up to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError, error_for_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_provider_openai_runs.simulator.response import Response


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One request of a batch: the response to it, or how it fails."""

    custom_id: str
    request_id: str
    response: Response | None
    failure: ApiError | None

    def answer(self, now: float) -> dict[str, Any]:
        """Write what the request would have been answered over HTTP."""
        if self.failure is not None or self.response is None:
            failure = self.failure or error_for_status(500)
            return {"status_code": failure.status, "request_id": self.request_id, "body": failure.body}
        return {"status_code": 200, "request_id": self.request_id, "body": self.response.render(now)}


@dataclass(frozen=True, slots=True)
class Totals:
    """What the first items of a batch sum up to."""

    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def plus(self, item: BatchItem) -> Totals:
        """Add one more item; what has failed costs nothing."""
        response = item.response
        if item.failure is not None or response is None:
            return Totals(
                self.failed + 1,
                self.input_tokens,
                self.cached_tokens,
                self.output_tokens,
                self.reasoning_tokens,
            )
        return Totals(
            self.failed,
            self.input_tokens + response.answer.prompt_tokens,
            self.cached_tokens + response.scenario.cached_tokens,
            self.output_tokens + response.answer.completion_tokens,
            self.reasoning_tokens + response.scenario.reasoning_tokens,
        )

    def usage(self) -> dict[str, Any]:
        """Show the tokens as the API does."""
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        }


def totals_of(items: Iterable[BatchItem]) -> list[Totals]:
    """Sum up the first item, the first two, and so on."""
    return list(accumulate(items, Totals.plus, initial=Totals()))[1:]
