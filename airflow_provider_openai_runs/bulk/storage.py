# SPDX-License-Identifier: Apache-2.0
"""
Where the files of a bulk task lie: one folder for each generation of a task instance.

``<output_path>/<dag>/<run>/<task>[/<map index>]/<generation>/`` holds the journal, the results and the
manifest. A clear begins another generation, whose folder is another one.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.output_paths import segment, task_segments
from airflow_provider_openai_runs.storage import OutputStore

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Names in the folder. Stored, so they stay.
HEAD, JOURNAL, RESULTS, WAITING = "head.json", "journal", "results", "waiting"
MANIFEST, FAILED, PARQUET = "manifest.json", "failed.jsonl", "results.parquet"


class StorageFolder:
    """
    The folder of one generation of a task; a ``Folder`` of ``journal.py``. Threads may share it.

    :param store: of ``output_path``, or of the folder itself.
    :param names: of the folder, below the path of the store.
    """

    def __init__(self, store: OutputStore, *names: str) -> None:
        self.store = store
        self._names = names

    @classmethod
    def of_task(cls, output_path: str, *, ti: Any, generation: int, log: Logger) -> StorageFolder:
        """
        Return the folder of a task instance.

        :param output_path: as the user named it.
        :param ti: Airflow's task instance.
        :raises RunRequestError: if there is no such storage.
        """
        names = task_segments(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index)
        return cls(OutputStore(output_path, log=log), *names, str(generation))

    @classmethod
    def at(cls, path: str, *, log: Logger) -> StorageFolder:
        """
        Return a folder by its own path, as a trigger or a person knows it.

        :raises RunRequestError: if there is no such storage.
        """
        return cls(OutputStore(path, log=log, argument="path"))

    @property
    def uri(self) -> str:
        """The folder's own path; ``at`` takes it."""
        return self.store.uri(*self._names)

    def check(self) -> None:
        """
        Find out whether anything can be written, before anything is paid for.

        :raises OpenAIRunError: if not.
        """
        self.store.check()

    def write(self, content: bytes, *names: str) -> str:
        """
        Write a file whole, and return its URI; the same may be written again.

        :raises RunStorageError: if the storage does not take it.
        """
        return self.store.write(content, *self._names, *_safe(names))

    def put(self, local: Path, *names: str) -> str:
        """
        Write a file of this machine, and return its URI.

        :raises RunStorageError: if the storage does not take it.
        """
        return self.store.put(local, *self._names, *_safe(names))

    def read(self, *names: str) -> bytes:
        """
        Read a file.

        :raises FileNotFoundError: if there is none.
        :raises RunStorageError: if the storage does not give it.
        """
        return self.store.read(*self._names, *_safe(names))

    def open(self, *names: str) -> IO[bytes]:
        """
        Open a file to read it in pieces.

        :raises FileNotFoundError: if there is none.
        :raises RunStorageError: if the storage does not give it.
        """
        return self.store.open(*self._names, *_safe(names))

    def names(self, *names: str) -> list[str]:
        """
        Return the names in a folder below this one.

        :raises RunStorageError: if the storage does not give them.
        """
        return self.store.names(*self._names, *_safe(names))

    def uri_of(self, *names: str) -> str:
        """Return the URI of a file."""
        return self.store.uri(*self._names, *_safe(names))


def _safe(names: tuple[str, ...]) -> tuple[str, ...]:
    # The ids of task instances, and what a journal that was damaged may say.
    return tuple(map(segment, names))
