# SPDX-License-Identifier: Apache-2.0
"""The note about the approval page of a task instance, in the task state store (Airflow 3.3+)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_KEY = "openai_run_approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalNote:
    """
    What is known about the page; Airflow lets no worker read the page itself.

    :param page: the id of what it shows.
    :param answered: whether its answer has been read.
    :param calls: the digests of the calls on it. A note of an older version has none.
    """

    page: str
    answered: bool
    calls: tuple[str, ...] = ()

    @classmethod
    def load(cls, store: Any) -> ApprovalNote | None:
        """Read the note; None if this task instance has asked nobody yet, or what is there says nothing."""
        found = store.get(_KEY)
        if not isinstance(found, dict) or not isinstance(page := found.get("page"), str):
            return None
        calls = found.get("calls")
        digests = calls if isinstance(calls, list) else []
        return cls(page=page, answered=bool(found.get("answered")), calls=tuple(map(str, digests)))

    def save(self, store: Any) -> None:
        """Write the note."""
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # noqa: PLC0415 # 3.3+

        value = {"page": self.page, "answered": self.answered, "calls": list(self.calls)}
        store.set(_KEY, value, retention=NEVER_EXPIRE)
