# SPDX-License-Identifier: Apache-2.0
"""The two hundred tickets that one task classifies, beside everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dev.demo.connections import real_service

DAG_ID = "openai_tickets"
ROWS_OF_A_REAL_SERVICE = 10
"""Each costs money there."""


def rows() -> int:
    """Return how many tickets there are."""
    return ROWS_OF_A_REAL_SERVICE if real_service() else 200


def story(result: Mapping[str, Any]) -> str:
    """Tell what the task has returned."""
    return (
        f"One task, {result['rows']} responses: {result['succeeded']} succeeded, "
        f"{result['usage']['total_tokens']} tokens, {result['seconds']:.0f} s"
    )
