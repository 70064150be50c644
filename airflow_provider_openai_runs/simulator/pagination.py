# SPDX-License-Identifier: Apache-2.0
"""Lists in pages, as every list of the API is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_openai_runs.simulator.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DEFAULT_LIMIT = 20
_MOST = 100


def page(
    keys: Sequence[str],
    query: Mapping[str, str],
    render: Callable[[str], dict[str, Any]],
    *,
    default: int = _DEFAULT_LIMIT,
    most: int = _MOST,
) -> dict[str, Any]:
    """Cut one page out of `keys` (ids, oldest first) and render only what is on it.

    Understands `limit` (1 to `most`, else `default`), `order` (newest first unless "asc"), `after` and
    `before`.
    """
    limit = _limit(query.get("limit"), default, most)
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise ApiError(
            f"Invalid value: '{order}'. Supported values are: 'asc' and 'desc'.",
            param="order",
            code="invalid_value",
        )
    found = list(keys) if order == "asc" else list(reversed(keys))
    if after := query.get("after"):
        found = found[_position(found, after, "after") + 1 :]
    backwards = False
    if before := query.get("before"):
        found = found[: _position(found, before, "before")]
        backwards = not after
    chosen = found[-limit:] if backwards else found[:limit]
    return {
        "object": "list",
        "data": [render(key) for key in chosen],
        "first_id": chosen[0] if chosen else None,
        "last_id": chosen[-1] if chosen else None,
        "has_more": len(found) > len(chosen),
    }


def _position(keys: list[str], key: str, param: str) -> int:
    try:
        return keys.index(key)
    except ValueError:
        raise ApiError(f"Invalid '{param}': no item with id '{key}' in this list.", param=param) from None


def _limit(text: str | None, default: int, most: int) -> int:
    if text is None:
        return default
    try:
        limit = int(text)
    except ValueError:
        message = "Invalid type for 'limit': expected an integer, but got a string instead."
        raise ApiError(message, param="limit", code="invalid_type") from None
    if limit < 1:
        message = (
            f"Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {limit} instead."
        )
        raise ApiError(message, param="limit", code="integer_below_min_value")
    if limit > most:
        message = (
            f"Invalid 'limit': integer above maximum value. "
            f"Expected a value <= {most}, but got {limit} instead."
        )
        raise ApiError(message, param="limit", code="integer_above_max_value")
    return limit
