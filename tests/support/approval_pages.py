# SPDX-License-Identifier: Apache-2.0
"""Calls that a person is asked about, and the page that asks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.model import RunRef, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.tool_calls.approval import ApprovalDecision
from airflow_provider_openai_runs.tool_calls.approval_page import ApprovalPage, OtherPage
from tests.support.scene import Scene

RUN = RunRef(kind=RunKind.THREAD_RUN, id="run_1", thread_id="thread_1", conn_id="openai_default")
REFUND = ToolCall(id="call_1", name="refund", arguments='{"order": "A-17", "amount": 12.5}')
MAIL = ToolCall(id="call_2", name="send_mail", arguments='{"to": ["ann@example.org"]}')
BROKEN = ToolCall(id="call_3", name="refund", arguments='{"order": ')
MCP = ToolCall(id="mcpr_1", name="roll_dice", arguments='{"sides": 6}', type="mcp_approval_request")
PERSON = {"id": "ann", "name": "Ann"}


@pytest.fixture
def page_of(scene: Scene, pages: Any) -> Callable[..., ApprovalPage]:
    """Make a page about calls, as each worker does anew."""
    ti = SimpleNamespace(id="01936d3e-0000-7000-8000-000000000001", dag_id="shop", task_id="ask")

    def make(*calls: ToolCall, ref: RunRef = RUN, round_number: int = 1, **texts: str | None) -> ApprovalPage:
        log: Any = logging.getLogger()
        return ApprovalPage(
            ti=ti, ref=ref, calls=calls, round_number=round_number, store=scene.store, log=log, **texts
        )

    return make


def decided(page: ApprovalPage, event: Mapping[str, Any]) -> dict[str, ApprovalDecision]:
    found = page.decisions(event)
    assert not isinstance(found, OtherPage)
    return {call.id: decision for call, decision in found.items()}
