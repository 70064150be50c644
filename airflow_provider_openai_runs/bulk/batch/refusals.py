# SPDX-License-Identifier: Apache-2.0
"""Batches that the server refuses whole: whether another create may do better, and with which files."""

from __future__ import annotations

from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.wire.batches import Batch

#: Refusals in a row, after which the server is taken at its word.
_MOST = 3


class Refusals:
    """
    The refusals of an attempt. A gateway's 404 passes, and a file of an earlier attempt may be gone.

    :ivar files: ids of files of which the server has made no batch; others are uploaded in their place.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._creates = 0
        self._files_gone = 0

    @property
    def may_pass(self) -> bool:
        """Whether the last create was refused, and that is not believed yet."""
        return 0 < self._creates < _MOST

    def on_created(self) -> None:
        """Take note that the server takes batches."""
        self._creates = 0

    def on_refused(self, file_id: str, failure: RequestFailure) -> None:
        """Take note of a refused create; what is wrong in any case is believed at once."""
        self.files.add(file_id)
        meaning = meaning_of((failure.code,) if failure.code else (), failure.text)
        self._creates = _MOST if meaning is CodeMeaning.PERMANENT else self._creates + 1

    def on_failed(self, file_id: str, seen: Batch) -> bool:
        """
        Take note of a batch that has failed before anything of it was executed.

        :return: whether that is for its file alone, and another one may do better.
        """
        if not seen.errors or not all(
            error.line is None and _is_of_file(error.code) for error in seen.errors
        ):
            return False
        self.files.add(file_id)
        self._files_gone += 1
        return self._files_gone < _MOST


def _is_of_file(code: str) -> bool:
    """Whether a code says that the server does not have a file that it was given."""
    return "file" in code and any(why in code for why in ("not_found", "missing", "expired", "deleted"))
