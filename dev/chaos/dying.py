# SPDX-License-Identifier: Apache-2.0
"""Operators whose trigger dies of an exception in its code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_openai_runs.operators import CreateResponseOperator, CreateRunOperator
from airflow_provider_openai_runs.triggers import RunCompletionTrigger

SECONDS_TO_LIVE = 10.0
"""Later than the executor reports that the worker has finished, which Airflow 3.3.2 must hear first."""


class DyingTrigger(RunCompletionTrigger):
    """Waits like its parent, but not for long."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what a triggerer needs to let it die."""
        return "dev.chaos.dying.DyingTrigger", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Die."""
        await asyncio.sleep(SECONDS_TO_LIVE)
        if self.tracked.ref is not None:
            raise RuntimeError("the trigger dies, as it was asked to")
        yield TriggerEvent({})


class DyingResponseOperator(CreateResponseOperator):
    """Defers to a trigger that dies."""

    def defer(self, *, trigger: Any, **options: Any) -> Any:
        """Hand the arguments to the trigger that dies."""
        super().defer(trigger=DyingTrigger(**trigger.serialize()[1]), **options)


class DyingRunOperator(CreateRunOperator):
    """Defers to a trigger that dies."""

    def defer(self, *, trigger: Any, **options: Any) -> Any:
        """Hand the arguments to the trigger that dies."""
        super().defer(trigger=DyingTrigger(**trigger.serialize()[1]), **options)
