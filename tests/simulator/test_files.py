# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    import httpx2

    from airflow_provider_openai_runs.simulator import Simulator


def upload(client: openai.OpenAI, name: str = "a.jsonl", data: bytes = b"{}\n", **more: Any) -> Any:
    return client.files.create(file=(name, data), purpose=more.pop("purpose", "batch"), **more)


def test_a_file_is_uploaded_read_downloaded_and_deleted(client: openai.OpenAI, simulator: Simulator) -> None:
    data = bytes(range(256)) * 1000
    file = upload(client, "naïve 名.jsonl", data)
    assert (file.bytes, file.filename, file.purpose) == (256_000, "naïve 名.jsonl", "batch")
    assert (file.status, file.expires_at) == ("processed", file.created_at + 30 * 86_400)
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == data
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.files.retrieve(file.id)
    assert (gone.value.param, gone.value.body["message"]) == ("id", f"No such File object: {file.id}")  # type: ignore[index]
    logged = simulator.requests[0].body
    assert logged == {"purpose": "batch", "file": {"filename": "naïve 名.jsonl", "bytes": 256_000}}


def test_a_file_expires_when_it_was_asked_to(client: openai.OpenAI, simulator: Simulator) -> None:
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    kept = upload(client, purpose="assistants")
    assert (file.expires_at, kept.expires_at) == (file.created_at + 3600, None)
    simulator.advance(3600)
    assert [one.id for one in client.files.list()] == [kept.id]
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


def test_files_are_listed_by_pages_and_by_purpose(client: openai.OpenAI, simulator: Simulator) -> None:
    keys = [upload(client, f"{number}.jsonl").id for number in range(5)]
    upload(client, purpose="user_data")
    assert [file.id for file in client.files.list(purpose="batch", order="asc")] == keys
    page = client.files.list(purpose="batch", limit=2)
    assert ([file.id for file in page.data], page.has_more) == (keys[:2:-1], True)
    assert [file.id for file in page] == keys[::-1]
    assert simulator.count("GET", "^/files$") == 4
    assert len(client.files.list(limit=10_000).data) == 6
    with pytest.raises(openai.BadRequestError, match="Expected a value <= 10000, but got 10001"):
        client.files.list(limit=10_001)


@pytest.mark.parametrize(
    ("more", "complaint", "param"),
    [
        (
            {"purpose": "world_domination"},
            (
                "'world_domination' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', "
                "'vision', 'evals'] - 'purpose'"
            ),
            "purpose",
        ),
        ({"name": "a.txt"}, "Invalid file format for Batch API. Must be .jsonl", None),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 60}},
            (
                "Invalid 'expires_after.seconds': integer below minimum value. "
                "Expected a value >= 3600, but got 60 instead."
            ),
            "expires_after.seconds",
        ),
        (
            {"expires_after": {"anchor": "now", "seconds": 3600}},
            "Invalid value: 'now'. Supported values are: 'created_at'.",
            "expires_after.anchor",
        ),
    ],
)
def test_a_wrong_upload_is_refused(client: openai.OpenAI, more: Any, complaint: str, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        upload(client, **more)
    assert (refused.value.body["message"], refused.value.param) == (complaint, param)  # type: ignore[index]


def test_an_upload_without_a_file_or_a_purpose_or_sense_is_refused(http: httpx2.Client) -> None:
    def complaint(answer: httpx2.Response) -> str:
        assert answer.status_code == 400
        return str(answer.json()["error"]["message"])

    assert complaint(http.post("/files", json={"purpose": "batch"})) == "Missing required parameter: 'file'."
    nothing = {"file": ("a.jsonl", b"")}
    assert complaint(http.post("/files", files=nothing)) == "Missing required parameter: 'purpose'."
    headers = {"content-type": "multipart/form-data; boundary=x"}
    garbage = http.post("/files", content=b"no parts", headers=headers)
    assert complaint(garbage).startswith("We could not parse")


def test_what_was_uploaded_for_models_to_read_is_not_given_back(client: openai.OpenAI) -> None:
    file = upload(client, purpose="user_data")
    with pytest.raises(openai.BadRequestError, match="Not allowed to download files of purpose: user_data"):
        client.files.content(file.id)
