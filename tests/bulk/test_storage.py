# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from airflow_provider_openai_runs.bulk.storage import StorageFolder
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunRequestError, RunStorageError

LOG: Any = logging.getLogger(__name__)
TI = SimpleNamespace(dag_id="a/dag", run_id="manual__2026-11-21T00:00", task_id="..", map_index=3)


@pytest.fixture
def folder(tmp_path: Path) -> StorageFolder:
    return StorageFolder.of_task(str(tmp_path), ti=TI, generation=2, log=LOG)


def test_the_folder_of_a_task_is_its_own_whatever_its_names_are(
    tmp_path: Path, folder: StorageFolder
) -> None:
    folder.write(b"x", "journal", "../../ti", "000001.jsonl")
    [found] = [path for path in tmp_path.rglob("*") if path.is_file()]
    task = "a=2Fdag/manual__2026-11-21T00=3A00/=2E./3/2"
    assert str(found.relative_to(tmp_path)) == f"{task}/journal/=2E.=2F..=2Fti/000001.jsonl"
    assert folder.uri.removeprefix("file://") == f"{tmp_path}/{task}"
    assert StorageFolder.at(folder.uri, log=LOG).read("journal", "../../ti", "000001.jsonl") == b"x"


def test_a_file_is_there_whole_or_as_it_was_before(
    tmp_path: Path, folder: StorageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write(b"before", "manifest.json")
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(RunStorageError, match="No space left"):
            folder.write(b"after", "manifest.json")
    assert folder.read("manifest.json") == b"before"
    assert folder.names() == ["manifest.json"]
    folder.write(b"after", "manifest.json")
    assert folder.read("manifest.json") == b"after"


def test_what_is_not_there_is_not_what_cannot_be_read(tmp_path: Path, folder: StorageFolder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("journal", "ti", "000001.jsonl")
    with pytest.raises(FileNotFoundError):
        folder.open("journal", "ti", "000001.jsonl")
    assert folder.names("journal") == []
    folder.write(b"x", "journal", "ti", "000001.jsonl")
    with pytest.raises(RunStorageError):
        folder.read("journal", "ti")
    assert folder.names("journal") == ["ti"]


def test_each_file_is_on_the_disk_before_its_write_is_over(
    folder: StorageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    uri = folder.write(b"x", "journal", "ti", "000001.jsonl").removeprefix("file://")
    names = synced
    assert any(path.parent == Path(uri).parent and path.name.endswith(".part") for path in names)
    assert names[-1] == Path(uri).parent
    assert Path(uri).parent.parent in names


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (AirflowNotFoundException("The conn_id `my_aws` isn't defined"), RunRequestError),
        (ConnectionError("Airflow's API server answers 503"), RunStorageError),
    ],
)
def test_a_connection_that_airflow_does_not_give_is_asked_for_again_unless_there_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, raised: Exception, kind: type[OpenAIRunError]
) -> None:
    def fail(_conn_id: str) -> None:
        raise raised

    monkeypatch.setattr(BaseHook, "get_connection", fail)
    with pytest.raises(kind, match="cannot be opened") as caught:
        StorageFolder.at(f"file://my_aws@{tmp_path}", log=LOG)
    assert caught.value.retryable is (kind is RunStorageError)
