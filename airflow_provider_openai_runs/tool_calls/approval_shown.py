# SPDX-License-Identifier: Apache-2.0
"""
What a person sees of one call.

It is the raw call: every difference that could matter is visible, and what is left out is said. Arguments
that JSON reads in more than one way (a name that stands twice, a number beyond a float) are shown as the
model wrote them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_openai_runs.runs.model import ToolCall
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.tool_calls.approval import FUNCTION, MCP_APPROVAL
from airflow_provider_openai_runs.tool_calls.approval_form import arguments_of, is_exact
from airflow_provider_openai_runs.tool_calls.approval_masks import (
    masked_arguments,
    masked_line,
    masked_text,
)

#: Longer arguments are shown, cut, but cannot be edited.
_MAX_EDITABLE = 64 * 1024
#: A browser has only floats, so a larger integer stands in the form as text, or an edit of it could be lost.
_EXACT_IN_A_BROWSER = 2**53 - 1
#: Characters that count as printable and take no room: fillers, joiners, and what chooses a glyph.
_TAKES_NO_ROOM = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCall:
    """
    One call as a person sees it.

    :param arguments: what the model wrote, read; None if that is no JSON object.
    :param masked: the same with secrets masked; None if it could be read in more than one way.
    :param text: the arguments for the page, secrets masked, control and bidi characters as escapes, which are
        not all JSON's: it cannot be read again.
    :param editable: the arguments for the form; None where they cannot be edited.
    :param notes: what the page is to say about them.
    """

    call: ToolCall
    arguments: dict[str, Any] | None
    masked: dict[str, Any] | None
    text: str
    editable: dict[str, Any] | None
    notes: Sequence[str]

    @classmethod
    def of(cls, call: ToolCall) -> ShownCall:
        """Read a call."""
        arguments = arguments_of(call)
        is_one_way = arguments is not None and is_exact(call.arguments)
        masked = None if arguments is None or not is_one_way else masked_arguments(arguments)
        if masked is None:
            text = masked_text(call.arguments)
            hides, fits_a_form = text != call.arguments, False
        else:
            written = json.dumps(masked, indent=2, ensure_ascii=False)
            text = masked_line(written)
            # A name, or a number, that is a secret cannot stand in a form.
            hides, fits_a_form = text != written or masked != arguments, text == written
        editable = _for_the_form(masked) if fits_a_form and call.type == FUNCTION else None
        notes = []
        if call.type == MCP_APPROVAL:
            notes.append("The server itself makes this call, of an MCP tool; it cannot be changed here.")
        elif arguments is None:
            notes.append("The arguments are no JSON object, so that they cannot be changed here.")
        elif not is_one_way:
            notes.append(
                "The arguments are shown as the model wrote them, since programs may read them differently: "
                "a name stands twice, a number is beyond a float, or they are very deep. They cannot be "
                "changed here."
            )
        elif len(call.arguments) > _MAX_EDITABLE:
            editable = None
            notes.append("The arguments are too long to be changed here.")
        elif editable is None:
            notes.append("The arguments cannot be changed here.")
        if hides:
            notes.append(
                "Airflow masks secrets: *** stands for a value that the call has and that is not shown."
            )
        return cls(
            call=call,
            arguments=arguments,
            masked=masked,
            text=shown_text(text),
            editable=editable,
            notes=notes,
        )


def shown_text(text: str) -> str:
    """Return text with an escape for each character that a person cannot see, but line breaks and tabs."""
    return "".join(
        char
        if char in "\n\t" or (char.isprintable() and not _TAKES_NO_ROOM.match(char))
        else ascii(char)[1:-1]
        for char in text
    )


def _for_the_form(arguments: Any) -> dict[str, Any] | None:
    """Return what stands in the form; a value that is left alone there becomes the model's own again."""
    found = plain(_all_visible(arguments))
    return found if isinstance(found, dict) and _names(found) == _names(arguments) else None


def _all_visible(value: Any) -> Any:
    if isinstance(value, dict):
        return {shown_text(name): _all_visible(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_all_visible(part) for part in value]
    if isinstance(value, int) and abs(value) > _EXACT_IN_A_BROWSER:
        return str(value)
    return shown_text(value) if isinstance(value, str) else value


def _names(value: Any) -> Any:
    """Return the names of an object, at every depth."""
    if isinstance(value, dict):
        return {name: _names(part) for name, part in value.items()}
    return [_names(part) for part in value] if isinstance(value, list) else None
