# SPDX-License-Identifier: Apache-2.0
"""The link from a task to its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


class OpenAIRunLink(BaseOperatorLink):
    """
    Opens the run where its server shows it.

    The worker calls ``get_link`` after every stretch of the task, also when it defers, and Airflow keeps the
    result; so the operator only has to know the page. Without a page there is no link.
    """

    name = "OpenAI run"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the page of the run that the operator works on, or nothing."""
        del ti_key
        return str(getattr(operator, "run_url", "") or "")


__all__ = ["OpenAIRunLink"]
