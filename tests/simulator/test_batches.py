# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import TypeAdapter

from airflow_provider_openai_runs.simulator import (
    BatchScenario,
    CodeInterpreter,
    FunctionCall,
    Limits,
    ProducedFile,
    Scenario,
    batch_input,
)

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator

DAY = 86_400


def line(custom_id: Any, **body: Any) -> dict[str, Any]:
    full = {"model": "gpt-4o", "input": f"Ask {custom_id}", **body}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/responses", "body": full}


def create(client: openai.OpenAI, *lines: Any, **more: Any) -> Any:
    data = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines).encode()
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/responses", completion_window="24h", **more
    )


def read(client: openai.OpenAI, batch: Any) -> Any:
    return client.batches.retrieve(batch.id)


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id is not None
    rows = [json.loads(row) for row in client.files.content(file_id).read().splitlines()]
    assert all(set(row) == {"id", "custom_id", "response", "error"} for row in rows)
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def body(row: dict[str, Any]) -> Any:
    assert (row["response"]["status_code"], row["error"]) == (200, None)
    shown = row["response"]["body"]
    shown["usage"]["input_tokens_details"]["cache_write_tokens"] = 0
    return TypeAdapter(Response).validate_python(shown, strict=True)


def test_a_batch_is_validated_worked_on_finalized_and_completed(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script_batches(BatchScenario(validating=60, in_progress=60, finalizing=60))
    batch = create(client, *(line(f"item-{n}") for n in range(4)), metadata={"token": "t"})
    assert (batch.status, batch.model, batch.metadata) == ("validating", None, {"token": "t"})
    assert batch.expires_at == batch.created_at + DAY
    assert batch.request_counts.to_dict() == {"total": 0, "completed": 0, "failed": 0}
    simulator.advance(91)
    batch = read(client, batch)
    assert (batch.status, batch.model, batch.output_file_id) == ("in_progress", "gpt-4o", None)
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 0}
    assert [one["kind"] for one in simulator.active()] == ["batch"]
    simulator.advance(60)
    batch = read(client, batch)
    assert (batch.status, batch.request_counts.completed, batch.output_file_id) == ("finalizing", 4, None)
    assert client.files.list(purpose="batch_output").data == []
    simulator.advance(60)
    batch = read(client, batch)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.completed_at >= batch.finalizing_at >= batch.in_progress_at >= batch.created_at
    assert simulator.active() == []

    found = results(client, batch.output_file_id)
    texts = {custom_id: body(row).output_text for custom_id, row in found.items()}
    assert texts == {f"item-{n}": f"Simulated answer to: Ask item-{n}" for n in range(4)}
    assert batch.usage.total_tokens == sum(body(row).usage.total_tokens for row in found.values())
    [file] = client.files.list(purpose="batch_output").data
    assert (file.id, file.filename) == (batch.output_file_id, f"{batch.id}_output.jsonl")


def test_results_are_not_in_the_order_of_the_input(client: openai.OpenAI, simulator: Simulator) -> None:
    batch = create(client, *(line(f"item-{n}") for n in range(20)))
    simulator.advance(5)
    found = list(results(client, read(client, batch).output_file_id))
    assert found != sorted(found, key=lambda name: int(name.removeprefix("item-")))


def test_scenarios_of_runs_say_what_each_item_answers(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script(
        Scenario(when="Ask b", text="Bee.", usage=(100, 10), cached_tokens=40, reasoning_tokens=5),
        Scenario(when="Ask c", refusal="No."),
        Scenario(when="Ask d", ends="incomplete", text="abcd"),
        Scenario(when="Ask e", ends="failed", error={"code": "rate_limit_exceeded", "message": "Full."}),
        Scenario(when="Ask f", function_calls=((FunctionCall(name="f"),),)),
        Scenario(when="Ask g", output=(CodeInterpreter(files=(ProducedFile(name="g.csv", text="g"),)),)),
    )
    batch = create(
        client, *(line(name) for name in "abcdefg"), line("h", temperatur=1), line("i", background=True)
    )
    simulator.advance(5)
    batch = read(client, batch)
    assert batch.request_counts.to_dict() == {"total": 9, "completed": 6, "failed": 3}
    found = results(client, batch.output_file_id)
    assert set(found) == set("abcdfg")
    assert body(found["b"]).output_text == "Bee."
    assert body(found["d"]).status == "incomplete"
    assert [body(found[name]).output[0].type for name in "cf"] == ["message", "function_call"]
    container = body(found["g"]).output[0].container_id
    [file] = client.containers.files.list(container).data
    assert client.containers.files.content.retrieve(file.id, container_id=container).read() == b"g"
    assert batch.usage.input_tokens_details.cached_tokens == 40
    assert batch.usage.output_tokens_details.reasoning_tokens == 5

    failed = results(client, batch.error_file_id)
    shown = {
        name: (row["response"]["status_code"], row["response"]["body"]["error"]["code"], row["error"])
        for name, row in failed.items()
    }
    assert shown == {
        "e": (429, "rate_limit_exceeded", None),
        "h": (400, "unknown_parameter", None),
        "i": (400, None, None),
    }


def test_a_batch_without_a_success_has_no_output_file(client: openai.OpenAI, simulator: Simulator) -> None:
    batch = create(client, line("a", temperature=9))
    simulator.advance(5)
    batch = read(client, batch)
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert set(results(client, batch.error_file_id)) == {"a"}


def test_a_batch_expires_in_the_middle_and_says_so_of_what_is_left(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    simulator.script_batches(BatchScenario(validating=0, in_progress=2 * DAY))
    batch = create(client, *(line(f"item-{n}") for n in range(10)))
    simulator.advance(DAY)
    batch = read(client, batch)
    assert (batch.status, batch.expired_at) == ("expired", batch.expires_at)
    assert batch.request_counts.to_dict() == {"total": 10, "completed": 5, "failed": 5}
    assert set(results(client, batch.output_file_id)) == {f"item-{n}" for n in range(5)}
    rows = results(client, batch.error_file_id)
    assert set(rows) == {f"item-{n}" for n in range(5, 10)}
    assert {(row["response"], row["error"]["code"]) for row in rows.values()} == {(None, "batch_expired")}


def test_a_cancel_takes_its_time_and_keeps_what_had_ended(
    client: openai.OpenAI, simulator: Simulator
) -> None:
    simulator.script_batches(BatchScenario(validating=0, in_progress=100, cancelling=600))
    batch = create(client, *(line(f"item-{n}") for n in range(10)))
    simulator.advance(35)
    assert client.batches.cancel(batch.id).status == "cancelling"
    simulator.advance(500)
    client.batches.cancel(batch.id)
    batch = read(client, batch)
    assert (batch.status, batch.output_file_id) == ("cancelling", None)
    assert batch.request_counts.completed == 3
    simulator.advance(100)
    batch = read(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelled_at >= batch.cancelling_at + 600
    assert set(results(client, batch.output_file_id)) == {"item-0", "item-1", "item-2"}
    assert batch.error_file_id is None
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        client.batches.cancel(batch.id)


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        ([], [("empty_file", None)]),
        ([line("a"), "{", "[]"], [("invalid_json_line", 2), ("invalid_json_line", 3)]),
        ([line("a"), line("b"), line("a")], [("duplicate_custom_id", 3)]),
        ([{**line("a"), "url": "/v1/chat/completions"}], [("url_mismatch", 1)]),
        ([{**line("a"), "method": "GET"}], [("invalid_method", 1)]),
        ([{**line("a"), "custom_id": None}], [("missing_required_parameter", 1)]),
        ([line(1)], [("invalid_type", 1)]),
        ([line("a"), line("b", model="gpt-5")], [("model_mismatch", 2)]),
        ([line("a", model="no-such-model")], [("model_not_found", 1)]),
    ],
)
def test_a_wrong_file_fails_the_validation_line_by_line(
    client: openai.OpenAI,
    simulator: Simulator,
    lines: list[Any],
    errors: list[Any],
) -> None:
    batch = create(client, *lines)
    assert (batch.status, batch.errors) == ("validating", None)
    simulator.advance(5)
    batch = read(client, batch)
    assert (batch.status, batch.in_progress_at, batch.output_file_id) == ("failed", None, None)
    assert batch.failed_at is not None
    assert [(error.code, error.line) for error in batch.errors.data] == errors
    assert batch.request_counts.total == 0


def test_a_file_that_is_too_large_or_has_too_many_lines_fails_the_validation(
    client: openai.OpenAI,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (batch_input.MOST_LINES, batch_input.MOST_BYTES) == (50_000, 200_000_000)
    monkeypatch.setattr(batch_input, "MOST_LINES", 2)
    many = create(client, line("a"), line("b"), line("c"))
    monkeypatch.setattr(batch_input, "MOST_BYTES", 10)
    large = create(client, line("a"))
    simulator.advance(5)
    codes = [read(client, one).errors.data[0].code for one in (many, large)]
    assert codes == ["too_many_tasks", "file_too_large"]


def test_a_file_nobody_knows_or_of_another_purpose_fails_the_validation(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    other = client.files.create(file=("a.jsonl", b"{}"), purpose="user_data").id
    codes = []
    for key in ("file-x", other):
        batch = client.batches.create(input_file_id=key, endpoint="/v1/responses", completion_window="24h")
        simulator.advance(5)
        codes.append(read(client, batch).errors.data[0].code)
    assert codes == ["file_not_found", "invalid_file"]


def test_the_limit_of_enqueued_tokens_counts_what_is_not_over(
    client: openai.OpenAI, simulator: Simulator
) -> None:
    simulator.limit(Limits(enqueued_tokens=10))
    simulator.script_batches(BatchScenario(in_progress=60, times=2))
    first = create(client, line("a", input="x" * 32))
    second = create(client, line("a", input="x" * 12))
    simulator.advance(5)
    [error] = read(client, second).errors.data
    assert (error.code, error.line) == ("token_limit_exceeded", None)
    assert "Limit: 10 enqueued tokens" in str(error.message)
    simulator.advance(60)
    assert read(client, first).status == "completed"
    third = create(client, line("a", input="x" * 12))
    simulator.advance(5)
    assert read(client, third).status == "completed"


def test_a_validation_may_fail_whatever_the_file_is(client: openai.OpenAI, simulator: Simulator) -> None:
    simulator.script_batches(BatchScenario(error={"code": "billing_hard_limit_reached"}))
    batch = create(client, line("a"))
    simulator.advance(5)
    [error] = read(client, batch).errors.data
    assert error.code == "billing_hard_limit_reached"


def test_a_scenario_may_be_about_batches_with_some_metadata(
    client: openai.OpenAI, simulator: Simulator
) -> None:
    error = {"message": "No."}
    simulator.script_batches(BatchScenario(when="^night", error=error, times=None))
    batches = [
        create(client, line("a"), metadata={"of": "nightly"}),
        create(client, line("a"), metadata={"of": "a night"}),
        create(client, line("a")),
    ]
    simulator.advance(5)
    assert [read(client, batch).status for batch in batches] == ["failed", "completed", "completed"]


def test_batches_are_listed_by_pages_newest_first_and_may_be_late(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    keys = [create(client, line("a"), metadata={"n": str(n)}).id for n in range(5)]
    page = client.batches.list(limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == (keys[:2:-1], True)
    assert [batch.metadata for batch in page] == [{"n": str(n)} for n in (4, 3, 2, 1, 0)]
    simulator.script_batches(BatchScenario(hidden_for=30))
    hidden = create(client, line("a")).id
    assert hidden not in [batch.id for batch in client.batches.list()]
    with pytest.raises(openai.NotFoundError, match=f"No batch found with id '{hidden}'"):
        client.batches.retrieve(hidden)
    simulator.advance(30)
    assert client.batches.retrieve(hidden).id == hidden


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"input_file_id": None}, "Missing required parameter: 'input_file_id'."),
        ({"completion_window": "26h"}, "Invalid value: '26h'. Supported values are: '24h'."),
        ({"endpoint": "/v1/wishes"}, "Invalid value: '/v1/wishes'. Supported values are: '/v1/responses', "),
        ({"endpoint": "/v1/chat/completions"}, "The simulator's batches are for /v1/responses only."),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "Invalid 'output_expires_after.seconds': integer below minimum value.",
        ),
        ({"metadata": {"a": 1}}, "Invalid type for 'metadata.a'"),
    ],
)
def test_a_wrong_batch_is_refused_at_once(client: openai.OpenAI, change: Any, complaint: str) -> None:
    given = {"input_file_id": "file-x", "endpoint": "/v1/responses", "completion_window": "24h", **change}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**given)
    assert refused.value.body["message"].startswith(complaint)  # type: ignore[index]


def test_the_files_of_a_batch_expire_when_they_were_asked_to(
    client: openai.OpenAI, simulator: Simulator
) -> None:
    batch = create(client, line("a"), output_expires_after={"anchor": "created_at", "seconds": 3600})
    simulator.advance(5)
    key = read(client, batch).output_file_id
    assert results(client, key)
    simulator.advance(3600)
    with pytest.raises(openai.NotFoundError):
        client.files.content(str(key))
