# SPDX-License-Identifier: Apache-2.0
"""
The input of a bulk task, a list or a file on storage, as rows that a retry reads again.

An input has to be the same in every attempt of a generation, since the number of a row names its item. What
it is, its head says; an attempt that meets another one must not pay.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.bulk.rows import (
    Row,
    check_form,
    of_file,
    of_items,
    with_request,
    with_unique_ids,
)
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import OpenAIRunError, RunRequestError, RunStorageError
from airflow_provider_openai_runs.runs.policies import OnLostCreate
from airflow_provider_openai_runs.runs.text import message_text
from airflow_provider_openai_runs.storage import OutputStore

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: Of ``items=``: they pass through Airflow's database, and are held in memory.
MAX_ITEMS = 5_000
MAX_ITEM_BYTES = 5 * 1024 * 1024
#: Items of a mapped task that are asked for at a time.
_SLICE = 100
_PIECE = 1024 * 1024
#: What object stores call the version of an object.
_VERSIONS = ("ETag", "etag", "e_tag", "md5Hash", "content_md5")

Request = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputHead:
    """
    What an input is, so that an attempt can tell whether it is still the same.

    :param path: of a file.
    :param size: bytes of a file.
    :param version: as the storage calls it, or a hash of the content.
    :param rows: how many there are, where that is known without reading them.
    """

    version: str
    path: str | None = None
    size: int | None = None
    rows: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form that is stored."""
        return {"path": self.path, "size": self.size, "version": self.version, "rows": self.rows}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> InputHead:
        """
        Read the stored form.

        :raises LookupError: if it is none.
        """
        return cls(version=value["version"], path=value["path"], size=value["size"], rows=value["rows"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkInput:
    """
    The rows of a task; threads may read it, each for itself.

    :param source: gives the rows as they stand there, from the first one on.
    :param request: the user's function from a row's values to the arguments that differ.
    :param resubmits_lost: whether creates that were lost in an earlier task are among them.
    :param error: why no row can be read; None if they can.
    """

    head: InputHead
    source: Callable[[], Iterator[Row]]
    request: Request | None = None
    resubmits_lost: bool = False
    error: OpenAIRunError | None = None

    @classmethod
    def lost(cls, head: InputHead, error: OpenAIRunError) -> BulkInput:
        """
        Return an input of which no more is known than what a task has begun with.

        :param head: of what it has begun with.
        """

        def source() -> Iterator[Row]:
            raise RunRequestError(str(error))

        return cls(head=head, source=source, error=error)

    def rows(self) -> Iterator[Row]:
        """
        Yield the rows from the first one on, with arguments as values, without those left out.

        :raises RunRequestError: if the file cannot be read as what its name says.
        :raises RunStorageError: if the storage does not give it.
        """
        kept = (row for row in self.source() if not self.is_skipped(row))
        return with_unique_ids(with_request(kept, self.request))

    def is_skipped(self, row: Row) -> bool:
        """Whether a row is left out: a run of it was lost sight of in an earlier task, and may be going."""
        return row.may_have_run and not self.resubmits_lost


def open_input(
    *,
    items: object = None,
    input_path: str | None = None,
    request: Request | None = None,
    on_lost_create: OnLostCreate = "fail",
    log: Logger,
) -> BulkInput:
    """
    Open the input of a task.

    :param items: texts, or dicts of arguments: a list, or what a mapped task has returned.
    :param input_path: a file that ends in .jsonl, .csv or .parquet, on any storage of Airflow's.
    :param request: from a row's values to the arguments that differ; None where the values are arguments.
    :raises RunRequestError: if there is none, or it is too large for ``items``; nothing was sent.
    :raises RunStorageError: if the storage does not give it.
    """
    if (items is None) == (input_path is None):
        raise RunRequestError("Give one of items and input_path. Nothing was sent.")
    if input_path is not None:
        head, source = _of_path(input_path, log=log)
    else:
        head, source = _of_list(items)
    return BulkInput(
        head=head,
        source=source,
        request=request,
        resubmits_lost=on_lost_create == "resubmit",
    )


def _of_list(items: object) -> tuple[InputHead, Callable[[], Iterator[Row]]]:
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Sequence):
        raise RunRequestError(
            f"items is {type(items).__name__}: must be a list of texts, or of dicts of arguments. "
            "Nothing was sent."
        )
    if len(items) > MAX_ITEMS:
        raise _too_large(f"{len(items)} items")
    kept: list[Any] = []
    size = 0
    digest = hashlib.sha256()
    for item in _sliced(items):
        written = _written(item)
        size += len(written)
        if size > MAX_ITEM_BYTES:
            raise _too_large(f"more than {MAX_ITEM_BYTES} bytes")
        digest.update(written + b"\n")
        kept.append(item)
    head = InputHead(version=digest.hexdigest(), rows=len(kept))
    return head, lambda: of_items(kept)


def _written(item: object) -> bytes:
    try:
        return json.dumps(item, sort_keys=True, default=str).encode()
    except (TypeError, ValueError, RecursionError):  # it is going to be a failed item
        return type(item).__name__.encode()


def _sliced(items: Sequence[Any]) -> Iterable[Any]:
    """Yield items; of a mapped task they come from Airflow, which is asked for some at a time."""
    for start in range(0, len(items), _SLICE):
        yield from items[start : start + _SLICE]


def _too_large(what: str) -> RunRequestError:
    return RunRequestError(
        f"items has {what}, and they pass through Airflow's database: write them to a file, and give "
        f"input_path. items is for at most {MAX_ITEMS} of {MAX_ITEM_BYTES} bytes. Nothing was sent."
    )


def _of_path(path: str, *, log: Logger) -> tuple[InputHead, Callable[[], Iterator[Row]]]:
    check_form(path)
    store = OutputStore(path, log=log, argument="input_path")
    try:
        info = store.info()
    except FileNotFoundError:
        raise checks.invalid("input_path", path, "there is no such file") from None
    found = next((info[name] for name in _VERSIONS if info.get(name)), None)
    version = str(found) if found is not None else _hash(path, store)
    head = InputHead(path=store.uri(), size=info.get("size"), version=version)

    def source() -> Iterator[Row]:
        with _errors(path), store.open() as file:
            yield from of_file(path, file)

    return head, source


@contextmanager
def _errors(path: str) -> Iterator[None]:
    """Name what whichever library raises in the middle of a file."""
    shown = checks.shown("input_path", path)
    try:
        yield
    except OpenAIRunError:
        raise
    except FileNotFoundError:
        raise RunStorageError(f"{shown}: the file is gone. A retry reads it again.") from None
    except Exception as error:  # noqa: BLE001 # see above
        raise RunStorageError(
            f"{shown} could not be read: {message_text(f'{type(error).__name__}: {error}')}."
        ) from None


def _hash(path: str, store: OutputStore) -> str:
    digest = hashlib.sha256()
    with _errors(path), store.open() as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
