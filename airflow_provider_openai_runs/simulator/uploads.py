# SPDX-License-Identifier: Apache-2.0
"""Files that arrive in a multipart body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

if TYPE_CHECKING:
    from starlette.types import Message, Scope


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as a client sent it."""

    filename: str
    data: bytes


def is_multipart(scope: Scope) -> bool:
    """Tell whether a request has a body of several parts."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    return any(kind.startswith(b"multipart/form-data") for kind in kinds)


async def read_form(scope: Scope, body: bytes) -> tuple[Any, Upload | None]:
    """Read the fields of a multipart body, as they are logged, and its file.

    A body that cannot be read is given back as text.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    upload: Upload | None = None
    fields: dict[str, Any] = {}
    try:
        async with Request(scope, receive).form() as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    upload = Upload(value.filename or "upload", await value.read())
                    fields[name] = {"filename": upload.filename, "bytes": len(upload.data)}
                else:
                    fields[name] = value
    except (HTTPException, MultiPartException, ValueError):  # starlette before 1.0 raises the parser's own
        return body.decode("utf-8", "replace"), None
    return fields, upload
