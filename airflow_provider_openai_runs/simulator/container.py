# SPDX-License-Identifier: Apache-2.0
"""A container: the machine on which a response runs code, with the files that the code has written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.citations import path_of, produced_file_id
from airflow_provider_openai_runs.simulator.content import Content
from airflow_provider_openai_runs.simulator.errors import item_not_found
from airflow_provider_openai_runs.simulator.tool_results import CodeInterpreter, ProducedFile

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator.response import Response

_MINUTES = 20


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """A file in a container."""

    id: str
    container_id: str
    created_at: int
    produced: ProducedFile

    @property
    def content(self) -> Content:
        """The bytes of the file."""
        return Content.made_up(self.produced.name, size=self.produced.size, text=self.produced.text)

    def render(self) -> dict[str, Any]:
        """Show the file as the API does."""
        return {
            "id": self.id,
            "object": "container.file",
            "created_at": self.created_at,
            "bytes": self.content.size,
            "container_id": self.container_id,
            "path": path_of(self.produced),
            "source": "assistant",
        }


@dataclass(frozen=True, slots=True)
class Container:
    """The container of one response; twenty minutes after the response has ended its files are gone."""

    id: str
    owner: Response

    def files(self, now: float) -> dict[str, ContainerFile]:
        """Index the files by id: none before the response has ended.

        :raises ApiError: 404, when the container has expired.
        """
        if self._has_expired(now):
            raise item_not_found("Container", self.id)
        if not self.owner.is_answered(now):
            return {}
        created_at = int(self.owner.timeline.since(now))
        produced = [
            file
            for result in self.owner.scenario.output
            if isinstance(result, CodeInterpreter)
            for file in result.files
        ]
        keys = {produced_file_id(self.owner.id, file, in_container=True): file for file in produced}
        return {key: ContainerFile(key, self.id, created_at, file) for key, file in keys.items()}

    def file(self, key: str, now: float) -> ContainerFile:
        """Find a file, or refuse its id."""
        found = self.files(now).get(key)
        if found is None:
            raise item_not_found("Container file", key)
        return found

    def render(self, now: float) -> dict[str, Any]:
        """Show the container as the API does; one that has expired can still be seen."""
        return {
            "id": self.id,
            "object": "container",
            "created_at": int(self.owner.created_at),
            "status": "expired" if self._has_expired(now) else "running",
            "expires_after": {"anchor": "last_active_at", "minutes": _MINUTES},
            "last_active_at": int(self.owner.timeline.since(now)),
            "memory_limit": "1g",
            "name": "auto",
        }

    def _has_expired(self, now: float) -> bool:
        ended_at = self.owner.timeline.ended_at(now)
        return ended_at is not None and now >= ended_at + _MINUTES * 60
