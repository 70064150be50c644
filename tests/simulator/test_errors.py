# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from airflow_provider_openai_runs.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_INPUT = "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided."
RESPONSE = {"model": "gpt-4o", "input": "x", "background": True}


def error(answer: httpx2.Response) -> tuple[int, str, str | None, str | None]:
    body = answer.json()["error"]
    assert set(body) == {"message", "type", "param", "code"}
    return answer.status_code, body["message"], body["param"], body["code"]


@pytest.mark.parametrize(
    ("change", "message", "param", "code"),
    [
        ({"modl": "x"}, "Unknown parameter: 'modl'.", "modl", "unknown_parameter"),
        ({"model": None}, "Missing required parameter: 'model'.", "model", "missing_required_parameter"),
        ({"input": None}, NO_INPUT, "input", "missing_required_parameter"),
        ({"input": ""}, NO_INPUT, "input", "missing_required_parameter"),
        ({"input": []}, NO_INPUT, "input", "missing_required_parameter"),
        (
            {"input": 5},
            "Invalid type for 'input': expected a string or an array, but got an integer instead.",
            "input",
            "invalid_type",
        ),
        (
            {"temperature": 2.1},
            "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.1 instead.",
            "temperature",
            "decimal_above_max_value",
        ),
        (
            {"top_p": -1},
            "Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -1 instead.",
            "top_p",
            "decimal_below_min_value",
        ),
        (
            {"max_output_tokens": 1},
            (
                "Invalid 'max_output_tokens': integer below minimum value. "
                "Expected a value >= 16, but got 1 instead."
            ),
            "max_output_tokens",
            "integer_below_min_value",
        ),
        (
            {"background": "yes"},
            "Invalid type for 'background': expected a boolean, but got a string instead.",
            "background",
            "invalid_type",
        ),
        (
            {"input": [1]},
            "Invalid type for 'input[0]': expected an object.",
            "input[0]",
            "invalid_type",
        ),
        (
            {"input": [{"content": "x"}]},
            "Missing required parameter: 'input[0].role'.",
            "input[0].role",
            "missing_required_parameter",
        ),
        (
            {"metadata": {"a": 1}},
            "Invalid type for 'metadata.a': expected a string, but got an integer instead.",
            "metadata.a",
            "invalid_type",
        ),
        (
            {"metadata": {"a": "x" * 513}},
            (
                "Invalid 'metadata.a': value too long. Expected a string with maximum length 512, "
                "but got a string with length 513 instead."
            ),
            "metadata.a",
            "string_above_max_length",
        ),
        (
            {"metadata": {str(number): "" for number in range(17)}},
            (
                "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
                "but got an object with 17 properties instead."
            ),
            "metadata",
            "object_above_max_properties",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "Missing required parameter: 'tools[0].name'.",
            "tools[0].name",
            "missing_required_parameter",
        ),
        (
            {"tools": [{"name": "f"}]},
            "Missing required parameter: 'tools[0].type'.",
            "tools[0].type",
            "missing_required_parameter",
        ),
        (
            {"truncation": "some"},
            "Invalid value: 'some'. Supported values are: 'auto' and 'disabled'.",
            "truncation",
            "invalid_value",
        ),
        (
            {"model": "no-such-model"},
            "The requested model 'no-such-model' does not exist.",
            "model",
            "model_not_found",
        ),
    ],
)
def test_a_wrong_response_is_refused_with_the_parameter_that_is_wrong(
    http: httpx2.Client,
    change: Mapping[str, Any],
    message: str,
    param: str,
    code: str,
) -> None:
    assert error(http.post("/responses", json={**RESPONSE, **change})) == (400, message, param, code)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 5}, "Unknown parameter: 'max_tokens'."),
        ({"assistant_id": None}, "Missing required parameter: 'assistant_id'."),
        (
            {"tools": [{"type": "retrieval"}]},
            (
                "Invalid value: 'retrieval'. "
                "Supported values are: 'code_interpreter', 'file_search', and 'function'."
            ),
        ),
        (
            {"tools": [{"type": "function", "name": "f"}]},
            "Missing required parameter: 'tools[0].function.name'.",
        ),
        (
            {"tools": [{"type": "code_interpreter"}] * 21},
            (
                "Invalid 'tools': array too long. Expected an array with maximum length 20, "
                "but got an array with length 21 instead."
            ),
        ),
        (
            {"additional_messages": [{"role": "user"}]},
            "Missing required parameter: 'additional_messages[0].content'.",
        ),
        (
            {"additional_messages": [{"role": "system", "content": "x"}]},
            "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
        ),
    ],
)
def test_a_wrong_run_is_refused_with_the_parameter_that_is_wrong(
    http: httpx2.Client,
    assistant: str,
    thread: str,
    change: Mapping[str, Any],
    message: str,
) -> None:
    answer = http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant, **change})
    assert error(answer)[:2] == (400, message)


def test_ids_nobody_has_are_refused_each_in_its_own_words(
    http: httpx2.Client,
    assistant: str,
    thread: str,
) -> None:
    run = http.post(f"/threads/{thread}/runs", json={"assistant_id": assistant}).json()["id"]
    expected = {
        "/assistants/asst_x": "No assistant found with id 'asst_x'.",
        "/threads/thread_x": "No thread found with id 'thread_x'.",
        "/threads/thread_x/runs/run_x": "No thread found with id 'thread_x'.",
        f"/threads/{thread}/runs/run_x": "No run found with id 'run_x'.",
        f"/threads/{thread}/messages/msg_x": "No message found with id 'msg_x'.",
        f"/threads/{thread}/runs/{run}/steps/step_x": "No step found with id 'step_x'.",
        "/responses/resp_x": "Response with id 'resp_x' not found.",
        "/conversations/conv_x": "Conversation with id 'conv_x' not found.",
    }
    for path, message in expected.items():
        assert error(http.get(path)) == (404, message, None, None)
    answer = http.post(f"/threads/{thread}/runs", json={"assistant_id": "asst_x"})
    assert error(answer)[:2] == (404, "No assistant found with id 'asst_x'.")


def test_a_key_is_required(simulator: Simulator) -> None:
    answer = httpx2.get(f"{simulator.base_url}/responses/resp_x")
    assert error(answer)[0] == 401
    assert "You didn't provide an API key" in error(answer)[1]


def test_a_wrong_key_is_refused_and_not_repeated() -> None:
    with Simulator(require_key="sk-right") as simulator:
        url = f"{simulator.base_url}/models"
        wrong = httpx2.get(url, headers={"Authorization": "Bearer sk-wrong-key"})
        assert error(wrong) == (401, "Incorrect API key provided: sk-***ey.", None, "invalid_api_key")
        assert httpx2.get(url, headers={"Authorization": f"Bearer {simulator.key}"}).status_code == 200


def test_threads_and_assistants_need_the_beta_header(simulator: Simulator) -> None:
    headers = {"Authorization": "Bearer sk-test"}
    for path in ("/threads", "/assistants", "/threads/runs"):
        answer = httpx2.post(simulator.base_url + path, json={"model": "gpt-4o"}, headers=headers)
        assert error(answer)[::3] == (400, "invalid_beta")


def test_bodies_that_are_no_objects_are_refused(http: httpx2.Client) -> None:
    for content in (b"{", b"[]", b"\xff"):
        status, message, _, _ = error(http.post("/responses", content=content))
        assert (status, message[:27]) == (400, "We could not parse the JSON")


def test_urls_and_methods_that_are_not_served_are_refused(http: httpx2.Client) -> None:
    assert error(http.get("/nothing"))[:2] == (404, "Invalid URL (GET /v1/nothing)")
    assert error(http.put("/responses"))[:2] == (404, "Invalid URL (PUT /v1/responses)")


def test_models_can_be_asked_for(http: httpx2.Client) -> None:
    listed = {model["id"]: model["shutdown_date"] for model in http.get("/models").json()["data"]}
    assert (listed["gpt-4o-mini"], listed["gpt-6-luna"]) == ("2027-01-14", None)
    assert http.get("/models/gpt-4o-mini").json()["shutdown_date"] == "2027-01-14"
    assert http.get("/models/anything").json()["id"] == "anything"
    assert error(http.get("/models/no-such-model"))[::3] == (404, "model_not_found")


def test_threads_can_be_switched_off_as_openai_has_done() -> None:
    with Simulator(no_threads=True) as simulator:
        headers = {"Authorization": "Bearer k", "OpenAI-Beta": "assistants=v2"}
        with httpx2.Client(base_url=simulator.base_url, headers=headers) as http:
            assert error(http.post("/threads"))[:2] == (404, "Invalid URL (POST /v1/threads)")
            assert error(http.get("/assistants/asst_x"))[0] == 404
            assert http.post("/responses", json=RESPONSE).status_code == 200


def test_azure_paths_keys_and_versions_are_understood() -> None:
    with Simulator(azure=True) as simulator:
        headers = {"api-key": "azure"}
        query = {"api-version": "2025-04-01-preview"}
        with httpx2.Client(base_url=simulator.root_url, headers=headers, params=query) as http:
            for prefix in ("/openai", "/openai/v1"):
                key = http.post(f"{prefix}/responses", json=RESPONSE).json()["id"]
                assert http.get(f"{prefix}/responses/{key}").json()["id"] == key
                assert http.post(f"{prefix}/threads").status_code == 200
        assert simulator.count("POST", r"^/responses$") == 2
        assert simulator.requests[0].headers["api-key"] == "[redacted]"


def test_the_base_path_may_be_anything_or_nothing() -> None:
    for base_path in ("/", "/gateway/openai/"):
        with Simulator(base_path=base_path) as simulator:
            answer = httpx2.get(f"{simulator.base_url}/models", headers={"Authorization": "Bearer k"})
            assert answer.status_code == 200
            assert simulator.count("GET", "^/models$") == 1
