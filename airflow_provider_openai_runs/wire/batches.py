# SPDX-License-Identifier: Apache-2.0
"""
The Batch API: many responses from one file (https://developers.openai.com/api/docs/guides/batch).

A batch is found again by the token in its metadata. A file has no metadata, and is found by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Flow, Receiver, Sleep, Upload

T = TypeVar("T")

#: The path that each line of a batch names.
ENDPOINT = "/v1/responses"
#: The code of a batch for which too many tokens wait in others.
QUEUE_IS_FULL = "token_limit_exceeded"
#: The API has no other.
_WINDOW = "24h"
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
#: Seconds for which an input file is kept: the least that Azure takes; OpenAI takes less, and up to 30 days.
_FILE_LIVES = 14 * 86_400
#: Seconds between uploads that are answered with a 404.
_UPLOAD_PAUSES = (1.0, 5.0)
_PAGE = 100
#: Pages that are read at most, newest first.
_MOST_PAGES = 100
#: Seconds by which the clocks of a server and of a worker may differ.
_CLOCKS_DIFFER = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineError:
    """
    Why a batch failed before anything of it was executed.

    :param line: of the input file, from 1; None if it is about all of it.
    """

    code: str
    text: str
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """
    A batch as a server shows it.

    :param status: the raw status.
    :param counts: ``total``, ``completed`` and ``failed`` of its requests, as far as the server counts.
    """

    id: str
    status: str
    counts: Mapping[str, int]
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: tuple[LineError, ...] = ()

    @property
    def files(self) -> str:
        """Its files, for a line of a log."""
        ids = {"input": self.input_file_id, "output": self.output_file_id, "errors": self.error_file_id}
        return ", ".join(f"{name} {file_id}" for name, file_id in ids.items() if file_id is not None)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more is going to happen to it; an unknown status is active."""
        return self.status in _ENDED


def upload(path: Path, name: str) -> ApiRequest[str]:
    """Upload a file of requests, and read its id; to do it again makes another file, which costs nothing."""
    fields = {"purpose": "batch", "expires_after": {"anchor": "created_at", "seconds": _FILE_LIVES}}
    return ApiRequest(
        method="POST",
        path="/files",
        body=fields,
        upload=Upload(path=path, name=name),
        read=lambda reply: reading.run_id(reply.data),
    )


def uploaded(path: Path, name: str) -> Flow[str]:
    """
    Upload a file of requests, and return its id.

    A gateway's 404 passes: it is believed when it is said again and again.
    """
    file_id: str
    for pause in _UPLOAD_PAUSES:
        try:
            file_id = yield upload(path, name)
        except ApiRequestFailed as failed:
            if failed.failure.kind is not FailureKind.NOT_FOUND:
                raise
            yield Sleep(pause, because=f"POST /files failed: {failed.failure.brief}")
        else:
            return file_id
    file_id = yield upload(path, name)
    return file_id


def find_file(name: str, *, since: float, but: Container[str] = ()) -> Flow[str | None]:
    """
    Return the id of the newest file of requests with this name that can be used.

    :param since: Unix seconds; it was not uploaded before.
    :param but: ids of files that the server lists, and makes no batch of.
    """

    def is_it(item: Mapping[str, Any]) -> bool:
        is_usable = item.get("status") in (None, "uploaded", "processed")
        file_id = reading.optional_id(item.get("id"))
        return item.get("filename") == name and is_usable and file_id is not None and file_id not in but

    query = {"purpose": "batch", "order": "desc"}
    found = yield from _first("/files", query, is_it, since=since)
    return None if found is None else reading.run_id(found)


def create(file_id: str, *, token: str, metadata: Mapping[str, str]) -> ApiRequest[Batch]:
    """Start a batch; ``token`` goes into its metadata."""
    body = {
        "input_file_id": file_id,
        "endpoint": ENDPOINT,
        "completion_window": _WINDOW,
        "metadata": {**metadata, TOKEN_KEY: token},
    }
    return ApiRequest(method="POST", path="/batches", body=body, read=_read, pays=True)


def find(token: str, *, file_id: str, since: float) -> Flow[Batch | None]:
    """
    Return the batch that has this token.

    :param file_id: of its requests; other batches may have been made of the same file.
    :param since: Unix seconds; it was not created before.
    :raises ApiRequestFailed: if the list cannot tell: it has no end, or a batch of this file and no token.
    """

    def may_be_it(item: Mapping[str, Any]) -> bool:
        its_file = reading.optional_id(item.get("input_file_id"))
        if its_file is not None:
            return its_file == file_id and _token_of(item) in (None, token)
        created_at = reading.unix_time(item.get("created_at"))
        return _token_of(item) == token and (created_at is None or created_at >= since - _CLOCKS_DIFFER)

    found = yield from _first("/batches", {}, may_be_it, since=since)
    if found is None:
        return None
    if _token_of(found) is None:
        raise _undecided(f"The list of batches has one of file {file_id} without its metadata")
    return _batch_of(reading.with_status(found))


def retrieve(batch_id: str) -> ApiRequest[Batch]:
    """Ask how a batch is doing."""
    return ApiRequest(method="GET", path=_path(batch_id), read=_read)


def cancel(batch_id: str) -> ApiRequest[Batch]:
    """Ask a batch to end, which may take ten minutes; what has been executed by then is paid for."""
    return ApiRequest(method="POST", path=f"{_path(batch_id)}/cancel", read=_read)


def content(file_id: str, receiver: Receiver) -> ApiRequest[None]:
    """Let ``receiver`` take what a batch has written."""
    path = f"/files/{quote(file_id, safe='')}/content"
    return ApiRequest(method="GET", path=path, read=lambda _: None, receiver=receiver)


def _first(
    path: str, query: Mapping[str, Any], is_it: Callable[[Mapping[str, Any]], bool], *, since: float
) -> Flow[Mapping[str, Any] | None]:
    """Return the first item of a list, newest first, that is the one; None if there is none."""
    after: dict[str, Any] = {}
    for _ in range(_MOST_PAGES):
        page = {**query, "limit": _PAGE, **after}
        reply: ApiReply = yield ApiRequest(method="GET", path=path, query=page, read=_listed)
        items = reading.objects_of(reply.data.get("data"))
        found = next(filter(is_it, items), None)
        if found is not None:
            return found
        if not items or _is_past(items, since - _CLOCKS_DIFFER) or reply.data.get("has_more") is False:
            return None
        if after == {"after": items[-1].get("id")}:  # a server that knows no pages
            if reply.data.get("has_more"):
                break
            return None
        after = {"after": items[-1].get("id")}
    raise _undecided(f"The list of {path} has no end")


def _token_of(item: Mapping[str, Any]) -> str | None:
    return reading.text_pairs(item.get("metadata")).get(TOKEN_KEY)


def _undecided(why: str) -> ApiRequestFailed:
    return ApiRequestFailed(RequestFailure(kind=FailureKind.REJECTED, text=why))


def _is_past(items: Sequence[Mapping[str, Any]], since: float) -> bool:
    """Whether a page, newest first as far as it tells, has come to what is older."""
    newest, oldest = (reading.unix_time(item.get("created_at")) for item in (items[0], items[-1]))
    return newest is not None and oldest is not None and oldest < min(newest, since)


def _listed(reply: ApiReply) -> ApiReply:
    if not isinstance(reply.data.get("data"), list):
        raise ValueError("it lists nothing")  # noqa: TRY004 # no bug
    return reply


def _read(reply: ApiReply) -> Batch:
    return _batch_of(reply.data)


def _batch_of(data: Mapping[str, Any]) -> Batch:
    counts = reading.object_of(data.get("request_counts"))
    errors = reading.objects_of(reading.object_of(data.get("errors")).get("data"))
    return Batch(
        id=reading.run_id(data),
        status=reading.raw_status(data),
        counts={
            name: number
            for name in ("total", "completed", "failed")
            if (number := reading.as_int(counts.get(name))) is not None
        },
        input_file_id=reading.optional_id(data.get("input_file_id")),
        output_file_id=reading.optional_id(data.get("output_file_id")),
        error_file_id=reading.optional_id(data.get("error_file_id")),
        errors=tuple(
            LineError(
                code=reading.name(error.get("code")) or "",
                text=str((reading.error_object(error) or {}).get("message") or "no message"),
                line=reading.as_int(error.get("line")),
            )
            for error in errors
        ),
    )


def _path(batch_id: str) -> str:
    return f"/batches/{quote(batch_id, safe='')}"
