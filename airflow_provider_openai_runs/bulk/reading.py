# SPDX-License-Identifier: Apache-2.0
"""The results of a bulk task as the next task reads them: one after another, as its manifest names them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.bulk.storage import StorageFolder
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.storage import OutputStore

#: The form of a manifest that this version reads.
VERSION = 1


def read_results(manifest: object, *, failed: bool = False) -> Iterator[dict[str, Any]]:
    """
    Yield the results of a bulk task, in no promised order; the memory of one is enough for all.

    Each has ``row``, ``custom_id``, ``state`` and ``error`` beside the keys of docs/result.md.

    :param manifest: its path, or what the task has returned, which has it under ``manifest``.
    :param failed: also those of items without a success; an item that has no run has no more than four keys.
    :raises RunRequestError: if it is no manifest, or one of a later version.
    :raises FileNotFoundError: if it, or a file that it names, is not there.
    """
    if isinstance(manifest, Mapping):
        manifest = manifest.get("manifest")
    path, _, name = str(manifest).rpartition("/")
    log: Any = logging.getLogger(__name__)
    folder = StorageFolder(OutputStore(path, log=log, argument="manifest"))
    yield from results_of(folder, _parts(folder.read(name), str(manifest)), failed=failed)


def results_of(folder: StorageFolder, parts: Iterable[str], *, failed: bool) -> Iterator[dict[str, Any]]:
    """
    Yield the results in files, as ``read_results`` does.

    :param parts: as a manifest names them.
    """
    for part in parts:
        for value in lines_of(folder, part):
            if failed or value["state"] == "succeeded":
                yield _flat(value)


def lines_of(folder: StorageFolder, part: str) -> Iterator[dict[str, Any]]:
    """
    Yield the lines of a file of results.

    :param part: as the manifest names it.
    :raises FileNotFoundError: if it is not there.
    """
    with folder.open(*part.split("/")) as file:
        yield from map(json.loads, file)


def _parts(content: bytes, path: str) -> list[str]:
    try:
        value = json.loads(content)
        if value["version"] > VERSION:
            raise RunRequestError(
                f"{path} was written by a later version of this package; read it with that one."
            )
        return [str(name) for name in value["parts"]]
    except (ValueError, LookupError, TypeError):
        raise RunRequestError(f"{path} is no manifest of a bulk task.") from None


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value.get(name) for name in ("row", "custom_id", "state", "error")}
    return {**(value.get("result") or {}), **own}
