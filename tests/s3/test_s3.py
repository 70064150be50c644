# SPDX-License-Identifier: Apache-2.0
"""``output_path`` on S3, as moto serves it; ``make test-s3`` runs this in an environment of its own."""

# ruff: noqa: PLC0415 - Airflow is imported by those who need it, after conftest.py has set its environment

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import ROOT
from dev.benchmarks.output import s3
from tests.support.scene import Make, Scene

pytestmark = [pytest.mark.s3, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3(tmp_path_factory.mktemp("s3")) as path:
        yield path


@pytest.fixture
def respond(scene: Scene) -> Make:
    from airflow_provider_openai_runs.operators import CreateResponseOperator

    def make(**arguments: Any) -> Any:
        given = {"task_id": "ask", "model": "m", "input": "Why?", "completion_window": 30}
        return CreateResponseOperator(**{**given, "poll_interval": 0.05, "deferrable": False, **arguments})

    return make


_LOG: Any = logging.getLogger(__name__)


def _store(path: str) -> Any:
    from airflow_provider_openai_runs.storage import OutputStore

    return OutputStore(path, log=_LOG)


def _put(path: str, content: bytes) -> None:
    code = "import sys; from airflow.sdk import ObjectStoragePath as Path\n"
    code += "Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", code, path], input=content, check=True)  # noqa: S603 # as above


def produces(scene: Scene) -> None:
    from airflow_provider_openai_runs.simulator import CodeInterpreter, ProducedFile, Scenario

    files = [ProducedFile(name="table of 1.csv", text="a,b\n"), ProducedFile(name="c.png", size=20_000_000)]
    scene.simulator.script(
        Scenario(queued=0, in_progress=0, output=[CodeInterpreter(files=files)], times=None)
    )


def test_reply_and_files_are_objects_that_the_next_task_reads(
    scene: Scene, respond: Make, bucket: str
) -> None:
    from airflow.sdk import ObjectStoragePath

    produces(scene)
    context = scene.context_of(run_id="manual__2026-11-21T00:00:00+00:00")
    result = scene.run(respond(output_path=f"{bucket}/a", text_in_xcom=3), context)
    folder = f"{bucket}/a/a_dag/manual__2026-11-21T00=3A00=3A00=2B00=3A00/ask/{result['id']}"
    assert result["reply_uri"] == f"{folder}/reply.json"
    assert json.loads(ObjectStoragePath(result["reply_uri"]).read_text())["id"] == result["id"]
    table, chart = (ObjectStoragePath(file["uri"]) for file in result["files"])
    assert table.read_text() == "a,b\n"
    assert chart.stat().st_size == 20_000_000
    assert ObjectStoragePath(result["output_uri"]).read_text()
    assert result["output_text"] is None


def test_a_retry_after_an_outage_writes_the_same_objects(scene: Scene, respond: Make, bucket: str) -> None:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_openai_runs.exceptions import RunStorageError
    from airflow_provider_openai_runs.storage import OutputStore

    produces(scene)
    operator = respond(output_path=f"{bucket}/b")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Forbidden")

    with scene.monkeypatch.context() as patch:
        # One object for all who use the connection.
        log: Any = logging.getLogger()
        patch.setattr(OutputStore(bucket, log=log)._fs, "put_file", refuse)
        with pytest.raises(RunStorageError, match="Forbidden"):
            scene.run(operator, scene.kept)
    assert not ObjectStoragePath(f"{bucket}/b").exists()
    result = scene.run(operator, scene.retry(scene.kept))
    assert ObjectStoragePath(result["reply_uri"]).exists()
    assert scene.creates() == 1


def test_a_bucket_or_a_connection_that_is_missing_costs_nothing(
    scene: Scene, respond: Make, bucket: str
) -> None:
    from airflow_provider_openai_runs.exceptions import RunRequestError

    for path in (bucket.replace("bucket", "no-such-bucket"), "s3://no_such_connection@bucket/x"):
        with pytest.raises(RunRequestError, match="Nothing was sent"):
            scene.run(respond(output_path=path))
    assert scene.creates() == 0


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_a_hundred_megabytes_take_little_memory(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dev.benchmarks.output", kind]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603 - nobody else's input
        command, check=False, capture_output=True, text=True, cwd=ROOT, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["bytes_above"] <= found["most"]


def test_a_bulk_tasks_files_are_read_as_they_are_now(bucket: str) -> None:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_openai_runs.bulk.storage import StorageFolder

    folder = StorageFolder(_store(f"{bucket}/bulk"), "d", "r", "t", "0")
    with pytest.raises(FileNotFoundError):
        folder.read("journal", "ti-1", "000001.jsonl")
    assert folder.names("journal") == []
    for content in (b"one\n", b"another\n"):
        uri = folder.write(content, "journal", "ti-1", "000001.jsonl")
        assert uri == f"{bucket}/bulk/d/r/t/0/journal/ti-1/000001.jsonl"
        assert folder.read("journal", "ti-1", "000001.jsonl") == content
        assert ObjectStoragePath(uri).read_bytes() == content
    folder.write(b"", "journal", "ti-2", "000001.jsonl")
    assert folder.names("journal") == ["ti-1", "ti-2"]
    again = StorageFolder.at(folder.uri, log=_LOG)
    with again.open("journal", "ti-1", "000001.jsonl") as file:
        assert file.readline(3) == b"ano"


def test_a_segment_is_one_request(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(f"{bucket}/bulk")
    store.write(b"the connection is open", "first")
    calls: list[str] = []
    given = type(store._fs)._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        calls.append(method)
        return await given(self, method, *args, **kwargs)

    monkeypatch.setattr(type(store._fs), "_call_s3", counted)
    store.write(b"x" * 8_000_000, "journal", "000001.jsonl")
    assert calls == ["put_object"]


def test_a_bucket_that_is_missing_is_never_an_empty_one(bucket: str) -> None:
    from airflow_provider_openai_runs.exceptions import RunStorageError

    store = _store(bucket.replace("bucket", "no-such-bucket"))
    with pytest.raises(RunStorageError, match="could not be written"):
        store.write(b"x", "a")


def test_an_input_on_s3_is_the_same_as_long_as_its_object_is(bucket: str) -> None:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_openai_runs.bulk.inputs import open_input

    path = ObjectStoragePath(f"{bucket}/in/tickets.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("input\n" + "".join(f"ticket {number}\n" for number in range(300_000)))
    source = open_input(input_path=str(path), log=_LOG)
    assert source.head == open_input(input_path=str(path), log=_LOG).head
    assert source.head.size == path.stat().st_size
    rows = [row.values for row in source.rows()]
    assert (len(rows), rows[-1]) == (300_000, {"input": "ticket 299999"})
    store = _store(f"{bucket}/in")
    store.names()  # the listing is kept by the file system
    # Somebody else writes: the file system of this process does not hear of it.
    _put(f"{bucket}/in/tickets.csv", b"input\nanother\n")
    changed = open_input(input_path=str(path), log=_LOG)
    assert changed.head != source.head
    assert [row.values for row in changed.rows()] == [{"input": "another"}]


def test_results_on_s3_are_read_by_the_next_task(bucket: str) -> None:
    from airflow_provider_openai_runs.bulk import read_results
    from airflow_provider_openai_runs.bulk.inputs import open_input
    from airflow_provider_openai_runs.bulk.items import Items, ItemState
    from airflow_provider_openai_runs.bulk.manifest import conclude
    from airflow_provider_openai_runs.bulk.parts import Outcome, Parts
    from airflow_provider_openai_runs.bulk.storage import MANIFEST, RESULTS, StorageFolder

    folder = StorageFolder(_store(f"{bucket}/bulk"), "results of 1", "0")
    parts = Parts(writer="ti-1")
    parts.add(Outcome(row=0, state=ItemState.SUCCEEDED, result={"output_text": "yes"}), now=0)
    parts.add(Outcome(row=1, state=ItemState.FAILED, error="no"), now=0)
    part = parts.close()
    folder.write(part.content, RESULTS, part.written.name)
    source = open_input(items=["a", "b"], log=_LOG)
    manifest = conclude(folder, source, Items.of([part.written]), seconds=1, as_table=True)
    assert (manifest.counts["succeeded"], manifest.counts["failed"]) == (1, 1)
    assert [result["output_text"] for result in read_results(folder.uri_of(MANIFEST))] == ["yes"]
    failed = open_input(input_path=folder.uri_of("failed.jsonl"), log=_LOG)
    assert [row.values for row in failed.rows()] == [{"input": "b"}]
    table = open_input(input_path=folder.uri_of("results.parquet"), log=_LOG)
    assert [row.values["state"] for row in table.rows() if row.values] == ["succeeded", "failed"]


def test_a_bulk_task_reads_from_a_bucket_and_writes_to_it(scene: Scene, bucket: str) -> None:
    from airflow.sdk import ObjectStoragePath

    from airflow_provider_openai_runs.bulk import read_results
    from airflow_provider_openai_runs.operators import BulkCreateResponsesOperator
    from airflow_provider_openai_runs.simulator import Scenario

    scene.simulator.script(Scenario(queued=0, in_progress=0.1, times=None))
    path = ObjectStoragePath(f"{bucket}/in/questions.jsonl")
    path.write_text("".join(f'{{"input": "Question {number}"}}\n' for number in range(50)))
    operator = BulkCreateResponsesOperator(
        task_id="ask",
        model="m",
        input_path=str(path),
        output_path=f"{bucket}/answers",
        poll_interval=0.2,
        deferrable=False,
    )
    result = scene.run(operator, scene.kept)
    assert (result["succeeded"], result["rows"], scene.creates()) == (50, 50, 50)
    assert result["manifest"] == f"{bucket}/answers/a_dag/manual__2026-11-21/ask/2/manifest.json"
    results = {item["row"]: item["output_text"] for item in read_results(result)}
    assert sorted(results) == [*range(50)]
    assert "Question 49" in results[49]
