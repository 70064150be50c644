# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import pytest

from airflow_provider_openai_runs.simulator import CodeInterpreter, Fault, ProducedFile, Scenario

if TYPE_CHECKING:
    from airflow_provider_openai_runs.simulator import Simulator

FILES = (
    ProducedFile(name="chart.png"),
    ProducedFile(name="table.csv", text="a,b\n"),
    ProducedFile(name="hidden.csv", cited=False),
)


def ask(client: openai.OpenAI, simulator: Simulator, *files: ProducedFile, **more: Any) -> Any:
    simulator.script(Scenario(output=(CodeInterpreter(files=files),)))
    return client.responses.create(model="gpt-4o", input="x", background=True, **more)


def container_of(client: openai.OpenAI, simulator: Simulator, *files: ProducedFile) -> str:
    made = ask(client, simulator, *files)
    simulator.advance(5)
    return str(client.responses.retrieve(made.id).output[0].container_id)  # type: ignore[union-attr]


def test_the_files_of_a_container_are_listed_and_downloaded(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    container = container_of(client, simulator, *FILES)
    assert client.containers.retrieve(container).status == "running"
    files = {file.path: file for file in client.containers.files.list(container)}
    assert set(files) == {"/mnt/data/chart.png", "/mnt/data/table.csv", "/mnt/data/hidden.csv"}
    table = files["/mnt/data/table.csv"]
    assert client.containers.files.retrieve(table.id, container_id=container).bytes == 4
    content = client.containers.files.content.retrieve(table.id, container_id=container)
    assert content.read() == b"a,b\n"
    assert content.response.headers["content-type"].startswith("text/csv")
    assert content.response.headers["content-disposition"].endswith("filename*=UTF-8''table.csv")


def test_a_container_that_is_named_is_used(client: openai.OpenAI, simulator: Simulator) -> None:
    tools: Any = [{"type": "code_interpreter", "container": "cntr_mine"}]
    ask(client, simulator, *FILES, tools=tools)
    simulator.advance(5)
    assert len(client.containers.files.list("cntr_mine").data) == 3


def test_a_container_is_empty_before_the_end_and_gone_twenty_minutes_after_it(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    made = ask(client, simulator, *FILES, tools=[{"type": "code_interpreter", "container": "cntr_mine"}])
    assert client.containers.files.list("cntr_mine").data == []
    simulator.advance(5)
    file = client.containers.files.list("cntr_mine").data[0].id
    simulator.advance(20 * 60)
    assert client.containers.retrieve("cntr_mine").status == "expired"
    with pytest.raises(openai.NotFoundError, match="Container with id 'cntr_mine' not found"):
        client.containers.files.content.retrieve(file, container_id="cntr_mine")
    assert client.responses.retrieve(made.id).status == "completed"


def test_files_and_containers_nobody_knows_are_refused(client: openai.OpenAI, simulator: Simulator) -> None:
    container = container_of(client, simulator)
    with pytest.raises(openai.NotFoundError, match="Container with id 'cntr_x' not found"):
        client.containers.files.list("cntr_x")
    with pytest.raises(openai.NotFoundError, match="Container file with id 'cfile_x' not found"):
        client.containers.files.retrieve("cfile_x", container_id=container)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "naïve 名.csv", 'a"b\r\nc.txt', "x" * 300])
def test_names_of_files_are_a_strangers(client: openai.OpenAI, simulator: Simulator, name: str) -> None:
    container = container_of(client, simulator, ProducedFile(name=name, text="x"))
    [file] = client.containers.files.list(container).data
    assert file.path == f"/mnt/data/{name}"
    assert client.containers.files.content.retrieve(file.id, container_id=container).read() == b"x"


def test_a_large_file_is_made_while_it_is_sent(
    client: openai.OpenAI,
    simulator: Simulator,
) -> None:
    size = 50_000_003
    container = container_of(client, simulator, ProducedFile(name="large.csv", size=size))
    [file] = client.containers.files.list(container).data
    assert file.bytes == size
    received = 0
    tracemalloc.start()
    content = client.containers.files.content.with_streaming_response
    with content.retrieve(file.id, container_id=container) as download:
        for chunk in download.iter_bytes():
            received += len(chunk)
    assert received == size
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_a_download_may_be_cut(http: httpx2.Client, client: openai.OpenAI, simulator: Simulator) -> None:
    container = container_of(client, simulator, ProducedFile(name="a.csv", size=200_000))
    [file] = client.containers.files.list(container).data
    simulator.fault(Fault(path="/content$", kind="cut"))
    with pytest.raises(httpx2.RemoteProtocolError, match="received 100000 bytes, expected 200000"):
        http.get(f"/containers/{container}/files/{file.id}/content")
