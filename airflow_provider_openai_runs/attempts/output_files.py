# SPDX-License-Identifier: Apache-2.0
"""
What a task writes to ``output_path``: the whole reply of each of its runs, and every file that they produced.

``<output_path>/<dag>/<run>/<task>[/<map index>]/<id of the OpenAI run>/`` is the folder of one run. No other
run writes there, and the same run writes the same again. ``reply.json`` comes last: where it is, all is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.runs.end_of_attempt import has_retry_left
from airflow_provider_openai_runs.runs.errors import RunStorageError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.kept_text import without_kept_texts
from airflow_provider_openai_runs.runs.model import Run, RunRef
from airflow_provider_openai_runs.runs.output_paths import file_segments, segment, task_segments
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.withheld import is_too_long
from airflow_provider_openai_runs.storage import OutputStore
from airflow_provider_openai_runs.transport.spool import FileSpool, ReplySpool
from airflow_provider_openai_runs.wire import flows
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_openai_runs.hooks.openai_runs import OpenAIRunsHook

REPLY, TEXT, TYPED = "reply.json", "output.txt", "output.json"
#: Bytes of one reply, or of one file. It passes through the disk of the worker.
MAX_BYTES = 10 * 1024**3
#: Bytes of a reply that are held in memory to read it; base64 is not among them.
MAX_READ = 64 * 1024**2
#: A run that names more has been led astray.
MAX_FILES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """
    A run that was read whole.

    :param run: with the places of what was written.
    :param error: why something of it was not written that a retry may write; None of a run that goes on.
    """

    run: Run
    error: RunStorageError | None = None


@dataclass(kw_only=True)
class OutputFiles:
    """
    Reads runs whole, and writes what they brought.

    :param path: as the user named it.
    :param ti: Airflow's task instance.
    :param text_limit: ``text_in_xcom``.
    """

    path: str
    ti: Any
    text_limit: int | None
    log: Logger

    @cached_property
    def _store(self) -> OutputStore:
        return OutputStore(self.path, log=self.log)

    @cached_property
    def _folder(self) -> tuple[str, ...]:
        ti = self.ti
        return task_segments(dag_id=ti.dag_id, run_id=ti.run_id, task_id=ti.task_id, map_index=ti.map_index)

    def check(self) -> None:
        """
        Find out whether there is such a storage, before a run is paid for.

        :raises OpenAIRunError: if there is none.
        """
        self._store.check()

    def collect(
        self,
        hook: OpenAIRunsHook,
        ref: RunRef,
        *,
        budget: float,
        request: RunRequest | None = None,
        include: Sequence[str] = (),
        created: Run | None = None,
    ) -> Collected:
        """
        Read a run whole, and write what it has brought if it has ended.

        :param budget: seconds for the reply, and for each file.
        :param request: that created it, where it is known.
        :param include: what else to ask for.
        :param created: the answer to its create, if the run had ended by then.
        :raises ApiRequestFailed: if it cannot be read.
        """
        with ReplySpool(limit=MAX_BYTES, read_limit=MAX_READ) as spool:
            if created is not None and created.body:
                spool.take(created.body)
                run = created
            else:
                flow = flows.whole(ref, spool, request=request, include=include)
                run = hook.run_flow(flows.with_retries(flow, budget=budget))
            if not run.status.is_terminal:
                return Collected(run=run)
            return self._written(hook, run, spool, budget)

    def write_typed(self, ref: RunRef, value: Any) -> str:
        """
        Write an answer as the type that was asked for, and return its URI.

        :raises RunStorageError: if the storage does not take it.
        """
        return self._put_text(ref, TYPED, json.dumps(value, ensure_ascii=False))

    def _written(self, hook: OpenAIRunsHook, run: Run, spool: ReplySpool, budget: float) -> Collected:
        try:
            files = tuple(self._with_places(hook, run, spool, budget))
            text = run.output_text
            output_uri = (
                self._put_text(run.ref, TEXT, text) if text and is_too_long(text, self.text_limit) else None
            )
            reply_uri = self._put(spool, run.ref, REPLY)
        except RunStorageError as error:
            return Collected(run=_in_memory(run), error=error)
        written = sum(file.uri is not None for file in files)
        self.log.info("Wrote the whole reply (%d bytes) and %d files: %s", spool.size, written, reply_uri)
        return Collected(
            run=_in_memory(replace(run, files=files, output_uri=output_uri, reply_uri=reply_uri))
        )

    def _with_places(
        self, hook: OpenAIRunsHook, run: Run, spool: ReplySpool, budget: float
    ) -> Iterator[RunFile]:
        if len(run.files) > MAX_FILES:
            self.log.warning("%s names %d files; %d are written", run.ref, len(run.files), MAX_FILES)
        taken: set[tuple[str, ...]] = set()
        for number, file in enumerate(run.files):
            if number >= MAX_FILES or (file.data is None and file.file_id is None):
                yield file  # a link leads to somebody else's server
                continue
            key = file.file_id or (file.name or f"file_{number}").partition(".")[0]
            shows_name = not is_too_long(file.name, self.text_limit)
            names = file_segments(file_id=key, name=file.name or "", shows_name=shows_name)
            if names in taken:
                names = (*names[:-2], f"{names[-2]}=={number}", names[-1])
            taken.add(names)
            with self._bytes_of(hook, file, spool, budget, key) as content:
                if content is None:
                    yield file
                else:
                    yield replace(file, size=content.size, uri=self._put(content, run.ref, *names))

    @contextmanager
    def _bytes_of(
        self, hook: OpenAIRunsHook, file: RunFile, spool: ReplySpool, budget: float, key: str
    ) -> Iterator[FileSpool | None]:
        """Give the bytes of a file; None if they cannot be had, and no retry would have them."""
        with FileSpool(limit=MAX_BYTES) as content:
            try:
                if file.data is None:
                    flow = flows.content(file, content)
                    hook.run_flow(flows.with_retries(flow, budget=budget))
                else:
                    for piece in spool.decoded(file.data):
                        content.take(piece)
            except ApiRequestFailed as failed:
                if self._may_be_had(failed.failure):
                    raise RunStorageError(
                        f"File {key} could not be read: {failed.failure}. A retry goes on with the same run."
                    ) from None
                self.log.warning("File %s is left out, it cannot be read: %s", key, failed.failure)
                yield None
            except ValueError as error:
                self.log.warning("File %s is left out: %s", key, error)
                yield None
            else:
                yield content

    def _may_be_had(self, failure: RequestFailure) -> bool:
        """Whether a retry of the task may read a file: a key may be fixed, a gateway's server be back."""
        is_of_nobody = failure.kind is FailureKind.NOT_FOUND and not failure.says_gone
        return failure.is_transient or (has_retry_left(self.ti) and (failure.is_of_account or is_of_nobody))

    def _put_text(self, ref: RunRef, name: str, text: str) -> str:
        with FileSpool(limit=MAX_BYTES) as spool:
            spool.take(text.encode("utf-8", "replace"))
            return self._put(spool, ref, name)

    def _put(self, spool: FileSpool, ref: RunRef, *names: str) -> str:
        return self._store.put(spool.path, *self._folder, segment(ref.id), *names)


def _in_memory(run: Run) -> Run:
    """Return a run without what lies in files that are gone by now."""
    steps = run.steps and tuple(replace(step, details=without_kept_texts(step.details)) for step in run.steps)
    return replace(
        run,
        steps=steps,
        steps_truncated=run.steps_truncated or steps != run.steps,
        files=tuple(replace(file, data=None) for file in run.files),
        body=b"",
    )
