# SPDX-License-Identifier: Apache-2.0
"""What can be said of a bulk task by batches while its Dag is parsed."""

from __future__ import annotations

from typing import Any

from airflow_provider_openai_runs.operators.parse_checks import waits_of
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.processing import REFUSED_BY_BATCH, batch_refuses

#: Seconds that a task waits where its user names none, and at least: a batch may take a day.
BATCH_WINDOW = 26 * 3600.0
LEAST_WINDOW = 25 * 3600.0


def check_batch(operator: Any) -> None:
    """
    Refuse what the Batch API cannot do, and a window in which no batch need end.

    :param operator: a ``BulkCreateResponsesOperator``, perhaps not rendered yet.
    :raises RunRequestError: naming the argument.
    """
    for name in REFUSED_BY_BATCH:
        if getattr(operator, name) is not None:
            raise RunRequestError(batch_refuses(name))
    for name, seconds in waits_of(operator).items():
        if seconds is not None and seconds < LEAST_WINDOW:
            raise RunRequestError(
                f"{name}={seconds:.15g} is too short for processing='batch': a batch may take 24 hours, and "
                f"what it has executed is paid for. Give {LEAST_WINDOW:.0f} s at least; 26 hours are the "
                "default. Nothing was sent."
            )
