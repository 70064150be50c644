# SPDX-License-Identifier: Apache-2.0
"""Manners of servers that the simulator does not have, on a server of a few lines."""

from __future__ import annotations

import pytest

from airflow_provider_openai_runs.exceptions import RunCallError, RunNotFoundError
from airflow_provider_openai_runs.hooks import OpenAIRunsHook
from tests.support.scripted_server import ScriptedServer

REF = {"kind": "response", "id": "resp_1", "conn_id": "scripted"}
RUNNING = {"id": "resp_1", "status": "in_progress"}


def test_a_refusal_names_the_wrong_fields_and_not_what_stood_in_them(
    scripted: ScriptedServer,
) -> None:
    wrong = {"loc": ["body", "tools", 0, "function"], "msg": "Field required", "input": "A secret recipe"}
    scripted.play({"POST /responses": (422, {"detail": [wrong, {"msg": "No."}]})})

    with pytest.raises(
        RunCallError, match=r"HTTP 422: body.tools.0.function: Field required; body: No\."
    ) as caught:
        OpenAIRunsHook("scripted").create_background_response(input="A secret recipe")
    assert "recipe" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_run_that_its_server_cannot_cancel_is_not_taken_for_gone(
    scripted: ScriptedServer, status: int
) -> None:
    refusal = (status, {"detail": "Not here"})
    scripted.play({"GET /responses/resp_1": (200, RUNNING), "POST /responses/resp_1/cancel": refusal})

    with pytest.raises(RunCallError, match=f"HTTP {status}.*status in_progress.*running and billing"):
        OpenAIRunsHook("scripted").cancel(REF, wait=3)
    assert scripted.count("POST /responses/resp_1/cancel") == 1


def test_a_run_that_has_ended_counts_as_cancelled_where_nothing_can_be(
    scripted: ScriptedServer,
) -> None:
    scripted.play({"GET /responses/resp_1": (200, {**RUNNING, "status": "completed"})})
    assert OpenAIRunsHook("scripted").cancel(REF, wait=3).raw_status == "completed"


def test_a_run_that_is_unknown_to_its_server_is_described_as_such(
    scripted: ScriptedServer,
) -> None:
    unknown = {"error": {"message": "Response with id 'resp_1' not found.", "type": "invalid_request_error"}}
    scripted.play({"GET /responses/resp_1": (404, unknown), "POST /responses/resp_1/cancel": (404, unknown)})
    with pytest.raises(RunNotFoundError, match="resp_1"):
        OpenAIRunsHook("scripted").cancel(REF, wait=3)
    assert [str(asked) for asked in scripted.asked] == [
        "GET /responses/resp_1",
        "POST /responses/resp_1/cancel",
    ]


def test_a_404_that_names_no_run_is_no_answer_about_it(scripted: ScriptedServer) -> None:
    """A gateway says so while its server is away: the run may be going."""
    with pytest.raises(RunCallError, match="may be running and billing"):
        OpenAIRunsHook("scripted").cancel(REF, wait=3)
