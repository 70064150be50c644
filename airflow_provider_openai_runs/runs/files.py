# SPDX-License-Identifier: Apache-2.0
"""A file that a run has produced, wherever its bytes are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePosixPath

from airflow_provider_openai_runs.runs.text import message_text

#: Characters of a name; file systems take 255 bytes.
_MAX_NAME = 100
_SEPARATORS = re.compile(r"[/\\]")
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gif": "image/gif",
    ".html": "text/html",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".py": "text/x-python",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "application/xml",
    ".zip": "application/zip",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFile:
    """
    A file that a run has produced. Name and type are what a server or a model says, and prove nothing.

    :param name: without a folder.
    :param media_type: for example ``"image/png"``.
    :param size: in bytes.
    :param file_id: of the API, where it has one; a picture within the reply has none.
    :param container_id: in which container of the API it is.
    :param uri: where it was written to.
    :param data: the base64 or ``data:`` URL of a file within the reply; not in XCom.
    """

    name: str | None = None
    media_type: str | None = None
    size: int | None = None
    file_id: str | None = None
    container_id: str | None = None
    uri: str | None = None
    data: str | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, str | int | None]:
        """Return what goes to XCom."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "data"}


def file_name(value: object) -> str | None:
    """Return a name that is one part of a path, of visible characters; None if there is none in ``value``."""
    if not isinstance(value, str):
        return None
    name = message_text(_SEPARATORS.split(value.rstrip("/\\"))[-1], limit=_MAX_NAME).strip(" .")
    return name or None


def media_type_of(name: str | None) -> str | None:
    """Return the type that the end of a name stands for."""
    return _MEDIA_TYPES.get(PurePosixPath(name or "").suffix.lower())


def extension_of(media_type: str | None) -> str:
    """Return how the name of a file of this type ends; nothing if that is not known."""
    return next((end for end, known in _MEDIA_TYPES.items() if known == media_type), "")


def each_once(files: Iterable[RunFile]) -> tuple[RunFile, ...]:
    """Return each file once, with all that is said of it in several places; in the order of the first."""
    found: dict[object, RunFile] = {}
    for number, file in enumerate(files):
        key = file.file_id or number
        known = found.get(key, file)
        gaps = {
            item.name: getattr(file, item.name) for item in fields(known) if getattr(known, item.name) is None
        }
        found[key] = replace(known, **gaps)
    return tuple(found.values())
