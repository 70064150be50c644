# SPDX-License-Identifier: Apache-2.0
"""The lists of the Assistants API, page after page, from servers that cut and order them in their own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_openai_runs.runs.failure import FailureKind
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Flow

#: What every request of the API says.
HEADERS = {"OpenAI-Beta": "assistants=v2"}
_PAGE_SIZE = 100
#: A list that never ends is a broken server.
_MAX_PAGES = 100
_NOT_FOUND = 404
_QUERY_REFUSED = frozenset({400, 422})
#: As many items, in a list that does not say whether there are more, may be cut: 20 are a usual page.
_LEAST_PAGE = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    A list as it was read.

    :param is_whole: whether what is not in it does not exist; not where a server leaves that open.
    """

    items: list[dict[str, Any]]
    is_whole: bool


def pages(path: str, query: Mapping[str, Any]) -> Flow[list[dict[str, Any]]]:
    """Read every page, as far as the server gives them."""
    listing = yield from read_list(path, query)
    return listing.items


def read_list(path: str, query: Mapping[str, Any]) -> Flow[Listing]:
    """
    Read every page; a server without the route has nothing to list.

    One that refuses the query (a smaller page, no order) is asked without it, and its answer put in order.
    """
    found: dict[str | tuple[int, int], dict[str, Any]] = {}
    is_whole = False
    after: str | None = None
    size, number = _PAGE_SIZE, 0
    while (number := number + 1) <= _MAX_PAGES * _PAGE_SIZE // size:
        asked = {**query, "limit": size} if query else {}
        page_query = {**asked, **({"after": after} if after else {})}
        try:
            page: ApiReply = yield ApiRequest(
                method="GET", path=path, query=page_query, headers=HEADERS, read=lambda reply: reply
            )
        except ApiRequestFailed as failed:
            if failed.failure.http_status in {404, 405, 501} and not path.endswith("/runs"):
                is_whole = failed.failure.http_status != _NOT_FOUND and not found  # such a route there is not
                break
            if failed.failure.kind is FailureKind.TOO_LARGE and query and size > 1:
                size = max(1, size // 10)
                continue
            if failed.failure.http_status in _QUERY_REFUSED and query and not found:
                listing = yield from read_list(path, {})
                # Those of one second stay as they were listed, once the list is turned around.
                items = sorted(oldest_first(listing.items), key=_age)
                return replace(listing, items=items[::-1] if query.get("order") == "desc" else items)
            raise
        items = reading.objects_of(page.data.get("data"))
        known = len(found)
        on_page: dict[str | tuple[int, int], dict[str, Any]] = {}
        for place, item in enumerate(items):
            # By id, since some servers repeat items from page to page, or ignore ``after`` and start again.
            key = reading.identifier(item.get("id")) or (number, place)
            # Others give each part of a message as a message.
            on_page[key if _says_the_same(on_page.get(key, item), item) else (number, place)] = item
        found |= on_page
        named = (page.data.get("last_id"), *(item.get("id") for item in reversed(items)))
        last = next(filter(None, map(reading.optional_id, named)), None)
        if not page.data.get("has_more") or last in {None, after} or len(found) == known:
            is_whole = _is_the_last(page.data, items)
            break
        after = last
    return Listing(items=[*found.values()], is_whole=is_whole)


def _is_the_last(page: Mapping[str, Any], items: Sequence[object]) -> bool:
    """Whether nothing comes after a page; one that tells so in no known way may have left out the most."""
    if not isinstance(page.get("data"), list):
        return False
    if "has_more" in page:
        return not page["has_more"]
    goes_on = any(value for name, value in page.items() if name.startswith("next"))
    return not goes_on and len(items) < _LEAST_PAGE


def oldest_first(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn a list around that a server has written newest first."""
    times = [found for item in items if (found := reading.unix_time(item.get("created_at"))) is not None]
    is_falling = times == sorted(times, reverse=True) != sorted(times)
    return items[::-1] if is_falling else items


def _says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("content", "step_details"))


def _age(item: Mapping[str, Any]) -> int:
    return reading.unix_time(item.get("created_at")) or 0
