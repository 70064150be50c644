# SPDX-License-Identifier: Apache-2.0
"""A file: uploaded by a client, or written by a run or a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.simulator.content import Content


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file; `is_ready` tells from when on a file that something writes is there."""

    id: str
    filename: str
    purpose: str
    created_at: float
    content: Content
    expires_at: float | None = None
    is_ready: Callable[[float], bool] = lambda _now: True

    def is_visible(self, now: float) -> bool:
        """Tell whether reads find the file: not before it has been written, nor after it has expired."""
        return self.is_ready(now) and (self.expires_at is None or now < self.expires_at)

    def render(self) -> dict[str, Any]:
        """Show the file as the API does."""
        return {
            "object": "file",
            "id": self.id,
            "purpose": self.purpose,
            "filename": self.filename,
            "bytes": self.content.size,
            "created_at": int(self.created_at),
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "status": "processed",
            "status_details": None,
        }
