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
