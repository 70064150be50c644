# SPDX-License-Identifier: Apache-2.0
"""The files that a run has produced, as its items, messages and steps name them or hold them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.runs.files import RunFile, extension_of, file_name, media_type_of
from airflow_provider_openai_runs.runs.inline import inline_content
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.annotations import annotations_of

#: Annotations that name something produced; a ``file_citation`` names a source.
_PRODUCED = frozenset({"container_file_citation", "file_path"})


def files_of_items(items: Iterable[Mapping[str, Any]]) -> Iterator[RunFile]:
    """Read the files of a response: pictures in its items, and what its texts cite of containers."""
    for item in items:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") in (None, "assistant"):
            yield from _files_of_content(item)
        elif kind == "image_generation_call":
            yield from _inline(item.get("result"), item, "")
        elif kind == "code_interpreter_call":
            yield from _files_of_outputs(item)


def ids_with(ids: Iterable[str], files: Iterable[RunFile]) -> tuple[str, ...]:
    """Return ids of files with those of ``files`` after them, each once."""
    return tuple(dict.fromkeys([*ids, *(file.file_id for file in files if file.file_id)]))


def files_of_message(message: Mapping[str, Any]) -> Iterator[RunFile]:
    """Read the files of a message of a thread: shown in it, linked in its text, attached to it."""
    yield from _files_of_content(message)
    for attached in reading.objects_of(message.get("attachments")):
        yield from _named(attached)


def files_of_step(details: Mapping[str, Any]) -> Iterator[RunFile]:
    """Read the pictures that a run step of a thread run has drawn."""
    for call in reading.objects_of(details.get("tool_calls")):
        code = reading.object_of(call.get("code_interpreter"))
        for output in reading.objects_of(code.get("outputs")):
            yield from _named(reading.object_of(output.get("image")))


def _files_of_content(message: Mapping[str, Any]) -> Iterator[RunFile]:
    for number, part in enumerate(reading.items_of(message.get("content"))):
        yield from _named(reading.object_of(part.get("image_file")))
        kind = reading.identifier(part.get("type"))
        if kind in {"output_image", "image_url"}:
            shown = part.get("image_url")
            url = shown.get("url") if isinstance(shown, Mapping) else shown
            yield from _inline(url, message, f"_{number}")
        elif kind == "output_file":
            yield from _named(part)
        inner = part.get("text")
        for said in (part, *(inner if isinstance(inner, list) else [inner])):
            for annotation in annotations_of(said):
                if annotation["type"] in _PRODUCED:
                    # A link of a thread run has no name but the path in the text.
                    yield from _named({"filename": annotation.get("text"), **annotation})


def _files_of_outputs(call: Mapping[str, Any]) -> Iterator[RunFile]:
    for number, output in enumerate(reading.objects_of(call.get("outputs"))):
        if output.get("type") == "image":
            yield from _inline(output.get("url"), call, f"_{number}")
        for file in reading.objects_of(output.get("files")):
            yield from _named({"container_id": call.get("container_id"), **file})


def _named(data: Mapping[str, Any]) -> Iterator[RunFile]:
    """Read a file that has an id."""
    if (file_id := reading.optional_id(data.get("file_id"))) is not None:
        name = file_name(data.get("filename"))
        yield RunFile(
            name=name,
            media_type=media_type_of(name) or reading.name(data.get("mime_type")),
            file_id=file_id,
            container_id=reading.optional_id(data.get("container_id")),
        )


def _inline(value: object, item: Mapping[str, Any], number: str) -> Iterator[RunFile]:
    """Read a picture that stands in the reply; it is called like the item that holds it."""
    text = reading.text(value)
    if text is None:
        return
    item_id = file_name(reading.identifier(item.get("id"))) or "file"
    content = inline_content(text)
    if content is None:  # a link: what is behind it is another server's
        name = file_name(text.partition("?")[0])
        yield RunFile(name=name, media_type=media_type_of(name))
        return
    media_type = content.media_type or media_type_of(f".{item.get('output_format')}")
    name = f"{item_id}{number}{extension_of(media_type)}"
    yield RunFile(
        name=name, media_type=media_type, size=content.size, data=text if content.is_whole else None
    )
