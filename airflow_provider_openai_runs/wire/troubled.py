# SPDX-License-Identifier: Apache-2.0
"""The one error that a call raises inside this package: everything else is decided from its trouble."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.trouble import Trouble


class CallFailed(Exception):  # noqa: N818 # an outcome to decide about, turned into a public error at the edge
    """A call brought no readable answer."""

    def __init__(self, trouble: Trouble, *, what: str = "") -> None:
        super().__init__(f"{what}: {trouble}" if what else str(trouble))
        self.trouble = trouble
