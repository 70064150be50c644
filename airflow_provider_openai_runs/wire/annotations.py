# SPDX-License-Identifier: Apache-2.0
"""The annotations of a text: what each of them names, in whichever of the two APIs' forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_openai_runs.wire import reading


def annotations_of(part: object) -> Iterator[dict[str, Any]]:
    """
    Read the annotations of a part of a message, or of its text.

    Thread runs (and gateways, of links) put what is named into an object that is called like the type:
    ``{"type": "file_path", "file_path": {"file_id": ...}}``. Its members stand beside the others here.
    """
    for annotation in reading.objects_of(part.get("annotations")) if isinstance(part, Mapping) else ():
        kind = reading.identifier(annotation.get("type"))
        yield {**reading.object_of(annotation.get(kind)), **annotation, "type": kind}
