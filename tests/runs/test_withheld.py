# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.kept_text import KeptText, without_kept_texts
from airflow_provider_openai_runs.runs.model import Run, RunRef, Step, ToolCall
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus
from airflow_provider_openai_runs.runs.withheld import WITHHELD, is_too_long, without_text

SHORT, LONG = "short", "a text that is longer"
RUN = Run(
    ref=RunRef(kind=RunKind.RESPONSE, id="resp_1", conn_id="openai_default"),
    status=RunStatus.COMPLETED,
    raw_status="completed",
    object="response",
    instructions=SHORT,
    tools=({"type": "function", "function": {"name": "weather", "description": LONG}},),
    last_error={"code": "server_error", "message": LONG},
    incomplete_details={"reason": "max_output_tokens", "said": LONG},
    output_text=LONG,
    final_text=SHORT,
    refusal=LONG,
    tool_calls=(ToolCall(id="call_1", name="weather", arguments=LONG),),
    steps=(Step(id="step_1", type="message", details={"text": LONG, "short": [SHORT, LONG, 7], LONG: 1}),),
    citations=(Citation(type="url_citation", url=LONG, title=SHORT),),
    files=(RunFile(name=LONG, media_type="image/png", file_id="file_1"),),
    body=b"all of it",
)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [("", 0, False), (None, 0, False), ("a", None, False), ("a", 0, True), ("ab", 2, False), ("äb", 2, True)],
)
def test_a_text_is_measured_in_bytes(text: str | None, limit: int | None, *, expected: bool) -> None:
    assert is_too_long(text, limit) is expected


def test_without_a_limit_all_is_kept() -> None:
    assert without_text(RUN, None) is RUN


def test_of_a_limit_what_fits_is_kept() -> None:
    found = without_text(RUN, 10)

    assert (found.output_text, found.final_text, found.refusal) == (None, SHORT, WITHHELD)
    assert found.tool_calls == (ToolCall(id="call_1", name="weather", arguments=WITHHELD),)
    assert found.steps is not None
    assert found.steps[0].details == {"text": None, "short": [SHORT, None, 7]}
    assert found.steps_truncated
    assert found.citations == (Citation(type="url_citation", title=SHORT),)
    assert found.files == (RunFile(media_type="image/png", file_id="file_1"),)
    assert (found.instructions, found.tools, found.last_error) == (SHORT, RUN.tools, RUN.last_error)
    assert found.body == b""


def test_of_steps_that_fit_nothing_is_said_to_be_missing() -> None:
    short = replace(RUN, steps=(Step(id="step_1", type="message", details={"text": [SHORT], "size": 7}),))

    assert without_text(short, 10).steps == short.steps
    assert not without_text(short, 10).steps_truncated


def test_with_a_limit_of_nothing_ids_and_codes_stay() -> None:
    found = without_text(RUN, 0)

    assert (found.output_text, found.final_text, found.refusal, found.instructions) == (
        *(None, None),
        *(WITHHELD, None),
    )
    assert found.tools == ({"type": "function", "function": {"name": "weather"}},)
    assert found.last_error == {"code": "server_error", "message": WITHHELD}
    assert found.incomplete_details == {"reason": "max_output_tokens"}
    assert found.tool_calls == (ToolCall(id="call_1", name="weather", arguments=WITHHELD),)
    assert found.steps == (Step(id="step_1", type="message"),)


def test_a_name_that_was_not_offered_is_the_models_own_text() -> None:
    invented = replace(RUN, tool_calls=(ToolCall(id="call_1", name=SHORT, arguments=""),))

    assert without_text(invented, 0).tool_calls[0].name == WITHHELD
    assert without_text(invented, 1).tool_calls[0].name == SHORT


def test_a_text_that_stays_in_a_file_is_described_by_its_size() -> None:
    picture = KeptText.of("iVBOR", start=10, length=70_000, tail="g==\n")

    assert without_kept_texts({"result": [picture, "kept", 7]}) == {
        "result": ["70000 characters, in reply.json", "kept", 7]
    }
