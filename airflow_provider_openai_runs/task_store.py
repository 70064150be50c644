# SPDX-License-Identifier: Apache-2.0
"""One key of Airflow's task state store (3.3+), which alone survives a retry; workers only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.record import NoLongerOwnerError

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStore:
    """
    One value of a task instance, as JSON.

    :param store: ``context["task_state_store"]``.
    """

    store: Any
    key: str

    def load(self) -> Any:
        """Return the value; None if there is none."""
        return self.store.get(self.key)

    def save(self, value: Any) -> None:
        """
        Write the value, for ever.

        :raises NoLongerOwnerError: if a later attempt has taken over.
        """
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # noqa: PLC0415 # 3.3+, as the store

        try:
            self.store.set(self.key, value, retention=NEVER_EXPIRE)
        except Exception as error:
            if _status_of(error) == _NOT_FOUND:
                raise NoLongerOwnerError from error
            raise

    def delete(self) -> None:
        """Forget the value."""
        self.store.delete(self.key)


def _status_of(error: Exception) -> object:
    detail = getattr(getattr(error, "error", None), "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None
