# SPDX-License-Identifier: Apache-2.0
"""Makes a result small enough for a database row, where it hurts least: pictures first, then the largest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from airflow_provider_openai_runs.runs.inline import inline_content

#: Characters of base64 that are worth leaving out.
_SHORTEST = 1000
#: Under these keys stands what a model wrote, whatever it is like.
_TEXTS = frozenset({"text", "value", "refusal", "arguments"})
#: What is written in place of base64.
_PLACEHOLDER = "({}, {} bytes, not in XCom)"


def size_of(value: Any) -> int:
    """Return how many bytes a value takes as JSON."""
    return len(json.dumps(value, default=str))


def cut_steps(result: dict[str, Any], *, limit: int) -> list[str]:
    """
    Leave out of the steps of a result what takes it above a limit.

    First base64, of which size and type stay, then whole ``details``; each time the largest, and no more than
    it takes.

    :param result: plain JSON; changed in place.
    :param limit: bytes of its JSON.
    :return: what was left out, for the log.
    """
    steps = [step for step in result.get("steps") or () if step.get("details")]
    too_much = size_of(result) - limit if steps else 0
    left_out = []
    pictures = [place for step in steps for place in _base64_in(step["details"])] if too_much > 0 else []
    for parent, key in sorted(pictures, key=lambda place: -len(place[0][place[1]])):
        if too_much <= 0:
            break
        text = parent[key]
        parent[key] = _placeholder(text)
        too_much -= len(text) - len(parent[key])
        left_out.append(parent[key])
    sizes = [(size_of(step["details"]), step) for step in steps] if too_much > 0 else []
    for size, step in sorted(sizes, key=lambda found: -found[0]):
        if too_much <= 0:
            break
        step["details"] = {}
        too_much -= size - len("{}")
        left_out.append(f"the details of {step.get('type')} {step.get('id')} ({size} bytes)")
    return left_out


def _base64_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Find texts of base64: what holds each of them, and under which key."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(item, (dict, list)):
            yield from _base64_in(item)
        elif isinstance(item, str) and len(item) > _SHORTEST and key not in _TEXTS and inline_content(item):
            yield value, key


def _placeholder(text: str) -> str:
    content = inline_content(text)
    return _PLACEHOLDER.format((content and content.media_type) or "base64", content.size if content else 0)
