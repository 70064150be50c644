# SPDX-License-Identifier: Apache-2.0
"""Checks of single arguments: each error names the argument, its value and the rule, and nothing is sent."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.text import message_text

#: OpenAI takes 16 pairs; one carries the token by which a lost run is found again.
MAX_METADATA_PAIRS = 15
MAX_METADATA_KEY = 64
#: The metadata pair that carries the token by which a lost run is found again.
TOKEN_KEY = "airflow_token"  # noqa: S105 # a name, not a secret
MAX_METADATA_VALUE = 512
#: A longer wait is a mistake in the unit.
MAX_SECONDS = 10 * 365 * 24 * 3600.0
#: Said of what a template has made of a value that there was not.
FROM_A_TEMPLATE = "; if it comes from a template, that has rendered to nothing, or to None"
#: A wrong value is shown up to this many characters; it may be a prompt.
MAX_SHOWN = 100
_DURATION = re.compile(
    r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>s(ec(ond)?s?)?|m(in(ute)?s?)?|h(r|our)?s?|d(ay)?s?)\s*",
    re.IGNORECASE,
)
#: The argument of a timedelta, and the seconds of one, by the first letter of a unit.
_UNITS = {"s": ("seconds", 1), "m": ("minutes", 60), "h": ("hours", 3600), "d": ("days", 86400)}


def invalid(name: str, value: object, rule: str) -> RunRequestError:
    """Build the error for one argument."""
    end = "" if rule.endswith("?") else "."
    return RunRequestError(f"{shown(name, value)}: {rule}{end} Nothing was sent.")


def shown(name: str, value: object) -> str:
    """Show an argument in an error; a key inside the value, such as that of an MCP tool, is taken out."""
    try:
        found = repr(value)
    except Exception:  # noqa: BLE001 # a value may say nothing of itself, or contain itself
        found = f"<{type(value).__name__}>"
    return f"{name}={message_text(found, limit=MAX_SHOWN)}"


def text(name: str, value: object) -> str:
    """Require text that is not empty, such as an id; the word None is what a template makes of none."""
    if not isinstance(value, str) or value.strip() in {"", "None", ".", ".."}:
        raise invalid(name, value, f"must be a non-empty string{from_a_template(value)}")
    return value


def free_text(name: str, value: object) -> str:
    """Return text that may be empty, such as instructions; the word *None* is nobody's wish."""
    found = as_text(value)
    if found.strip() == "None":
        raise invalid(name, value, f"must be text{FROM_A_TEMPLATE}")
    return found


def from_a_template(value: object) -> str:
    """Return the end of an error's sentence for text that a template may have made of nothing."""
    return FROM_A_TEMPLATE if isinstance(value, str) and value.strip() in {"", "None"} else ""


def as_text(value: object) -> str:
    """Return JSON as the text that a template was before it was rendered natively; text stays as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def number(name: str, value: object, *, low: float, high: float) -> float:
    """Require a finite number within bounds; text that a template rendered to a number is accepted."""
    found = _as_number(name, value)
    if not low <= found <= high:
        raise invalid(name, value, f"must be between {low:g} and {high:g}")
    return found


def count(name: str, value: object, *, low: int = 1, high: int | None = None) -> int:
    """Require a whole number within bounds, of at least one unless given."""
    found = _as_number(name, value)
    if found != int(found) or found < low or (high is not None and found > high):
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise invalid(name, value, f"must be a whole number {bounds}")
    return int(found)


def seconds(name: str, value: object, *, above: float = 0.0) -> float:
    """Require a positive duration: seconds, or a timedelta."""
    if isinstance(value, timedelta):
        found = value.total_seconds()
    elif isinstance(value, str) and (meant := _duration(value)):
        raise invalid(name, value, f"must be a number of seconds, or a timedelta: write {meant}")
    else:
        found = _as_number(name, value)
    if not above < found <= MAX_SECONDS:
        raise invalid(
            name, value, f"must be more than {above:g} seconds and at most {MAX_SECONDS:g} (ten years)"
        )
    return found


def completion_window(value: object) -> float:
    """Require the seconds to wait for a run; the API's own values for other windows are refused by name."""
    if value is None or from_a_template(value):
        rule = f"must be seconds (int, float) or a timedelta: it is how long this task waits{FROM_A_TEMPLATE}"
        raise invalid("completion_window", value, rule)
    if isinstance(value, str) and not _is_number(value):
        meant = _duration(value)
        raise invalid(
            "completion_window",
            value,
            "must be seconds (int, float) or a timedelta: it is how long this task waits"
            f"{meant and f'; write {meant}'}. The API fields that share the name are "
            "background_options={'completion_window': '2h'} of a response and completion_window='24h' of a "
            "batch; pass the former as background_options",
        )
    return seconds("completion_window", value)


def metadata(value: object) -> dict[str, str]:
    """Require at most 15 pairs of text within the API's lengths; a number becomes the text that it was."""
    if not isinstance(value, Mapping):
        raise invalid("metadata", value, "must be a dict of text to text")
    if len(value) > MAX_METADATA_PAIRS:
        raise invalid(
            "metadata",
            value,
            f"has {len(value)} pairs; the API takes 16, and one of them is the token of this package, "
            f"so at most {MAX_METADATA_PAIRS} are yours",
        )
    if TOKEN_KEY in value:
        raise invalid("metadata", value, f"the key {TOKEN_KEY!r} is this package's own; choose another one")
    for key, item in value.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_METADATA_KEY:
            raise invalid(
                "metadata", {key: item}, f"a key must be text of 1 to {MAX_METADATA_KEY} characters"
            )
        if item is None or len(as_text(item)) > MAX_METADATA_VALUE:
            raise invalid(
                f"metadata[{key!r}]", item, f"must be text of at most {MAX_METADATA_VALUE} characters"
            )
    return {key: as_text(item) for key, item in value.items()}


def flag(name: str, value: object) -> bool:
    """Require true or false; a template renders them to text, where any text would count as true."""
    found = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise invalid(name, value, "must be true or false")
    return found


def choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Require one of the choices."""
    if value not in choices:
        meant = did_you_mean(value, choices)
        raise invalid(name, value, f"must be one of {', '.join(map(repr, choices))}{meant}")


def near(value: object, known: Iterable[str]) -> list[str]:
    """Return what somebody may have meant, the nearest first."""
    import difflib  # noqa: PLC0415 # for an error only

    return difflib.get_close_matches(value, list(known)) if isinstance(value, str) else []


def did_you_mean(value: object, known: Iterable[str], *, meant: Sequence[str] = ()) -> str:
    """Return the end of an error's sentence that names what may have been meant; empty if nothing is near."""
    found = [*meant] or near(value, known)[:1]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""


def not_given(name: str, value: object, *, sets: str) -> None:
    """
    Refuse an argument that another one sets: it would be replaced without a word.

    :param sets: the argument that sets it.
    """
    if value is not None:
        raise RunRequestError(f"{sets} sets {name}; give one of them. Nothing was sent.")


def mapping(name: str, value: object) -> dict[str, Any]:
    """Require a JSON object."""
    if not isinstance(value, Mapping):
        raise invalid(name, value, "must be a dict")
    return dict(value)


def sequence(name: str, value: object) -> list[Any]:
    """Require a list."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise invalid(name, value, "must be a list")
    return list(value)


def json_object(name: str, value: object) -> dict[str, Any]:
    """Require a JSON object, as a dict or as its text (Terraform's ``jsonencode``)."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, Mapping):
        raise invalid(name, value, "must be a JSON object, as a dict or as its text")
    return dict(found)


def _duration(value: str) -> str:
    """Return how a duration that was written as text is to be written; empty if it is none."""
    found = _DURATION.fullmatch(value)
    unit = _UNITS.get(found["unit"].lower()[:1]) if found else None
    if found is None or unit is None:
        return ""
    number = float(found["number"])
    return f"{number * unit[1]:.15g} or timedelta({unit[0]}={number:.15g})"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _as_number(name: str, value: object) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _is_number(value)):
        try:
            found = float(value)  # type: ignore[arg-type]  # narrowed by the two checks above
        except OverflowError:
            found = math.inf
        if math.isfinite(found):
            return found
    raise invalid(name, value, "must be a number")


def called_with(name: str, function: Callable[..., Any], *values: object, of: str) -> None:
    """
    Require a function that can be called so.

    :param of: the arguments, in words.
    :raises RunRequestError: if its signature does not take them.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of what is not written in Python nobody knows
        return
    try:
        signature.bind(*values)
    except TypeError as error:
        raise invalid(name, function, f"is called with {of} ({error})") from None
