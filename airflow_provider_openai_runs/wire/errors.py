# SPDX-License-Identifier: Apache-2.0
"""The one error that a request raises inside this package; its failure is what decisions are made from."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.failure import RequestFailure


class ApiRequestFailed(Exception):  # noqa: N818 # an outcome to decide about, turned into a public error at the edge
    """
    A request brought no readable answer.

    :param pays: whether it was one that starts paid work, which may then be under way.
    """

    def __init__(self, failure: RequestFailure, *, pays: bool = False) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.pays = pays
