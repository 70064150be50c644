# SPDX-License-Identifier: Apache-2.0
"""A batch: many responses from one file, in one life cycle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.batch_items import Totals
from airflow_provider_openai_runs.simulator.errors import ApiError
from airflow_provider_openai_runs.simulator.ids import child_id
from airflow_provider_openai_runs.simulator.lifecycle import Status, Timeline

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.batch_items import BatchItem
    from airflow_provider_openai_runs.simulator.batch_scenario import BatchScenario

#: Seconds by which a difference of times may be wrong: they are floats, and beyond a thousand million.
_ROUNDING = 1e-6


class BatchStatus(StrEnum):
    """The statuses that only batches have."""

    VALIDATING = "validating"
    FINALIZING = "finalizing"


class FileKind(StrEnum):
    """The two files that a batch can leave."""

    OUTPUT = "output"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class Batch:
    """A batch; everything but `timeline` is settled when it is created.

    `parameters` are the fields that are merely echoed; `errors` are those for which its validation fails;
    `totals` are those of the first item, of the first two, and so on.
    """

    id: str
    created_at: float
    parameters: dict[str, Any]
    items: list[BatchItem]
    totals: list[Totals]
    errors: list[dict[str, Any]]
    model: str | None
    enqueued_tokens: int
    scenario: BatchScenario
    speed: float
    output_lives: float | None = None
    is_settled: bool = False
    timeline: Timeline = field(init=False)

    def __post_init__(self) -> None:
        """Plan the time until the end."""
        scenario, fails = self.scenario, bool(self.errors)
        phases: list[tuple[str, float]] = [(BatchStatus.VALIDATING, scenario.validating)]
        if not fails:
            phases += [
                (Status.IN_PROGRESS, scenario.in_progress),
                (BatchStatus.FINALIZING, scenario.finalizing),
            ]
        quick = [(status, seconds / self.speed) for status, seconds in phases]
        ends = Status.FAILED if fails else Status.COMPLETED
        self.timeline = Timeline.plan(self.created_at, quick, ends).expiring(self._expires_at)

    def is_visible(self, now: float) -> bool:
        """Tell whether reads and lists find the batch already."""
        return now >= self.created_at + self.scenario.hidden_for

    def cancel(self, now: float) -> None:
        """Begin the end; again changes nothing, and a batch that has ended is refused."""
        if self.timeline.is_terminal(now):
            message = f"Cannot cancel a batch with status '{self.timeline.status(now)}'."
            raise ApiError(message, status=409)
        if self.timeline.status(now) == Status.CANCELLING:
            return
        phases = ((Status.CANCELLING, self.scenario.cancelling / self.speed),)
        self.timeline = self.timeline.followed_by(now, Timeline.plan(now, phases, Status.CANCELLED))

    def moments(self, count: int) -> list[float]:
        """Give the moments at which so many items will end, evenly over the time in progress."""
        start = self.created_at + self.scenario.validating / self.speed
        return [
            start + self.scenario.in_progress / self.speed * (index + 1) / count for index in range(count)
        ]

    def finished(self, now: float) -> int:
        """Count the items that have been executed by `now`, one after the other while in progress."""
        started = self.timeline.last(Status.IN_PROGRESS, now)
        if started is None:
            return 0
        left = [at for at, _ in self.timeline.changes if started < at <= now]
        worked = (left[0] if left else now) - started
        lasts = self.scenario.in_progress / self.speed
        share = (worked + _ROUNDING) / lasts if lasts else 1.0
        return int(len(self.items) * min(share, 1.0))

    def file_id(self, kind: FileKind, now: float) -> str | None:
        """Give the id of a file, None as long as there is none."""
        counts = self._counts(now)
        is_there = counts["completed" if kind is FileKind.OUTPUT else "failed"] > 0
        return self.child_file_id(kind) if is_there and self.timeline.is_terminal(now) else None

    def child_file_id(self, kind: FileKind) -> str:
        """Give the id that a file will have."""
        return child_id("file", self.id, kind, joint="-")

    def lines(self, kind: FileKind, now: float) -> Iterator[dict[str, Any]]:
        """Write the lines of a file; they are not in the order of the input."""
        finished = self.finished(now)
        wanted = [one for one in self.items[:finished] if (one.failure is None) == (kind is FileKind.OUTPUT)]
        for item in sorted(wanted, key=lambda item: child_id("", item.custom_id, 0)):
            yield self._line(item.custom_id, item.answer(now), None)
        if kind is FileKind.ERROR and self.timeline.status(now) == Status.EXPIRED:
            message = "This request could not be executed before the completion window expired."
            for item in self.items[finished:]:
                yield self._line(item.custom_id, None, {"code": "batch_expired", "message": message})

    def render(self, now: float) -> dict[str, Any]:
        """Show the batch as the API does."""
        status, timeline = self.timeline.status(now), self.timeline
        has_begun = timeline.last(Status.IN_PROGRESS, now) is not None
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.parameters["endpoint"],
            "model": self.model if has_begun else None,
            "errors": {"object": "list", "data": self.errors} if status == Status.FAILED else None,
            "input_file_id": self.parameters["input_file_id"],
            "completion_window": self.parameters["completion_window"],
            "status": status,
            "output_file_id": self.file_id(FileKind.OUTPUT, now),
            "error_file_id": self.file_id(FileKind.ERROR, now),
            "created_at": int(self.created_at),
            "expires_at": int(self._expires_at),
            **{
                f"{name}_at": None if (at := timeline.last(name, now)) is None else int(at)
                for name in (
                    Status.IN_PROGRESS,
                    BatchStatus.FINALIZING,
                    Status.COMPLETED,
                    Status.FAILED,
                    Status.EXPIRED,
                    Status.CANCELLING,
                    Status.CANCELLED,
                )
            },
            "request_counts": self._counts(now),
            "usage": self._totals(now).usage(),
            "metadata": self.parameters["metadata"],
        }

    def summary(self, now: float) -> dict[str, Any]:
        """Describe the batch in one flat object."""
        return {
            "kind": "batch",
            "id": self.id,
            "thread_id": None,
            "model": self.model,
            "status": self.timeline.status(now),
            "metadata": self.parameters["metadata"],
            "created_at": self.created_at,
            "ended_at": self.timeline.ended_at(now),
            "text": "",
            **self._counts(now),
        }

    @property
    def _expires_at(self) -> float:
        return self.created_at + self.scenario.expires_after

    def _line(self, custom_id: str, response: Any, error: Any) -> dict[str, Any]:
        key = child_id("batch_req", self.id, custom_id)
        return {"id": key, "custom_id": custom_id, "response": response, "error": error}

    def _totals(self, now: float) -> Totals:
        finished = self.finished(now)
        return self.totals[finished - 1] if finished else Totals()

    def _counts(self, now: float) -> dict[str, int]:
        totals, finished = self._totals(now), self.finished(now)
        begun = self.timeline.last(Status.IN_PROGRESS, now) is not None
        counts = {
            "total": len(self.items) if begun else 0,
            "completed": finished - totals.failed,
            "failed": totals.failed,
        }
        if self.timeline.status(now) == Status.EXPIRED:
            counts["failed"] = counts["total"] - counts["completed"]
        return counts
