# SPDX-License-Identifier: Apache-2.0
"""The lists of the Assistants API, page after page, from servers that cut and order them in their own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiReply, ApiRequest, Flow

#: What every request of the API says.
HEADERS = {"OpenAI-Beta": "assistants=v2"}
_PAGE_SIZE = 100
#: A list that never ends is a broken server.
_MAX_PAGES = 100
_QUERY_REFUSED = frozenset({400, 422})


def pages(path: str, query: Mapping[str, Any]) -> Flow[list[dict[str, Any]]]:
    """
    Read every page; a server without the route has nothing to list.

    One that refuses the query (a smaller page, no order) is asked without it, and its answer put in order.
    """
    found: dict[str | tuple[int, int], dict[str, Any]] = {}
    after: str | None = None
    for number in range(_MAX_PAGES):
        asked = {**query, "limit": _PAGE_SIZE} if query else {}
        page_query = {**asked, **({"after": after} if after else {})}
        try:
            page: ApiReply = yield ApiRequest(
                method="GET", path=path, query=page_query, headers=HEADERS, read=lambda reply: reply
            )
        except ApiRequestFailed as failed:
            if failed.failure.http_status in {404, 405, 501} and not path.endswith("/runs"):
                break
            if failed.failure.http_status in _QUERY_REFUSED and query and not found:
                items = sorted((yield from pages(path, {})), key=_age)
                return items[::-1] if query.get("order") == "desc" else items
            raise
        items = reading.objects_of(page.data.get("data"))
        known = len(found)
        # By id, since some servers repeat items from page to page, or ignore ``after`` and start again.
        found |= {
            reading.identifier(item.get("id")) or (number, place): item for place, item in enumerate(items)
        }
        named = (page.data.get("last_id"), *(item.get("id") for item in reversed(items)))
        last = next(filter(None, map(reading.optional_id, named)), None)
        if not page.data.get("has_more") or last in {None, after} or len(found) == known:
            break
        after = last
    return list(found.values())


def _age(item: Mapping[str, Any]) -> int:
    return reading.unix_time(item.get("created_at")) or 0
