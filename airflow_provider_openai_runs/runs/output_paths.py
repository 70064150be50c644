# SPDX-License-Identifier: Apache-2.0
"""
Where the files of a run lie below ``output_path``: names that nobody can lead astray.

A Dag run's id has colons and plus signs, and names of files are a stranger's. So each part of a path is
written with letters, digits, ``.``, ``-`` and ``_`` alone; any other byte of its UTF-8 is ``=`` and two
hexadecimal digits. Two different texts never have the same name.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re

#: Characters of one part of a path; a key of an object store may have 1,024 bytes in all.
MAX_SEGMENT = 150
#: Characters of a file's ending that are kept where its name is too long.
_MAX_SUFFIX = 16
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.\-]")
_ENDING = re.compile(r"\.[A-Za-z0-9]+\Z")


def segment(text: str) -> str:
    """
    Return a text as one part of a path.

    One that is too long, or empty, has ``==`` and a hash in place of what is left out; no other name has two
    signs of equality in a row.
    """
    raw = text.encode("utf-8", "surrogatepass")
    # A leading dot would hide the file, and two of them lead out of the folder.
    head = "=2E" if raw.startswith(b".") else ""
    written = head + _UNSAFE.sub(lambda found: b"=%02X" % found.group()[0], raw[1 if head else 0 :]).decode()
    if 0 < len(written) <= MAX_SEGMENT:
        return written
    ending = found.group() if (found := _ENDING.search(written)) and len(found.group()) <= _MAX_SUFFIX else ""
    mark = f"=={hashlib.sha256(raw).hexdigest()[:16]}{ending}"
    return written[: MAX_SEGMENT - len(mark)] + mark


def task_segments(*, dag_id: str, run_id: str, task_id: str, map_index: int) -> tuple[str, ...]:
    """Return the folder of a task instance below ``output_path``."""
    parts = (dag_id, run_id, task_id, *([] if map_index < 0 else [str(map_index)]))
    return tuple(map(segment, parts))


def file_segments(*, file_id: str, name: str, shows_name: bool) -> tuple[str, ...]:
    """
    Return where a produced file lies in the folder of its run.

    Its id is a folder, so that files of the same name do not meet, and none of them meets our own.

    :param name: of whoever wrote it; a path's last part counts.
    :param shows_name: false where no word of the model may be in the name; then its ending alone counts.
    """
    own = re.split(r"[/\\]", name)[-1]
    if not shows_name:
        own = f"file{known_ending(own)}"
    return ("files", segment(file_id), segment(own or "file"))


def known_ending(name: str) -> str:
    """Return a file's ending if it is a common one, which says nothing but a type of file; else nothing."""
    ending = found.group().lower() if (found := _ENDING.search(name)) else ""
    return ending if ending in mimetypes.types_map else ""
