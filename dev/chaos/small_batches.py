# SPDX-License-Identifier: Apache-2.0
"""An operator by batches whose batches are small, and that need not wait for a day."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
from dev.chaos.batch_rows import ITEMS_OF_A_BATCH


class SmallBatchesOperator(BulkCreateResponsesOperator):
    """Splits its items into more batches than it would, and takes any window."""

    def __init__(self, *, completion_window: Any, **options: Any) -> None:
        super().__init__(completion_window=timedelta(hours=25), **options)
        self.completion_window = completion_window

    def _go_on(self, *arguments: Any, **options: Any) -> Any:
        # Imported here for the same reason as in the operator itself.
        from airflow_provider_openai_runs.bulk.batch import building  # noqa: PLC0415
        from airflow_provider_openai_runs.operators import by_batch  # noqa: PLC0415

        building.MAX_ROWS, by_batch.LEAST_WINDOW = ITEMS_OF_A_BATCH, 0.0
        return super()._go_on(*arguments, **options)
