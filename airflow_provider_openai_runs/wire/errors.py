# SPDX-License-Identifier: Apache-2.0
"""The one error that a call raises inside this package: everything else is decided from its trouble."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.failure import Trouble


class CallFailed(Exception):  # noqa: N818 # an outcome to decide about, turned into a public error at the edge
    """
    A call brought no readable answer.

    :param pays: whether it was one that starts paid work, which may then be under way.
    """

    def __init__(self, trouble: Trouble, *, pays: bool = False) -> None:
        super().__init__(str(trouble))
        self.trouble = trouble
        self.pays = pays
