# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import ApiRequest
from airflow_provider_openai_runs.wire.threads import WIRE

SINCE = 1_700_000_000
Drive = Callable[..., tuple[Any, list[ApiRequest[Any]]]]


def run(run_id: Any, token: str | None = None, *, age: int = 10, **more: Any) -> dict[str, Any]:
    metadata = {"airflow_token": token} if token else {"team": "a"}
    return {"id": run_id, "metadata": metadata, "created_at": SINCE + age, **more}


@pytest.fixture
def search(drive: Drive) -> Callable[..., SearchResult]:
    def search(token: str, *pages: Any, thread_id: str | None = "thread_1") -> SearchResult:
        flow = WIRE.search(thread_id=thread_id, token=token, since=SINCE, conn_id="ai")
        result: SearchResult = drive(flow, pages)[0]
        return result

    return search


def page(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"data": list(items), **more}


Search = Callable[..., SearchResult]


def found_id(result: SearchResult) -> str | None:
    assert result.conclusive
    return result.ref.id if result.ref else None


def test_a_run_is_found_by_its_whole_token_on_any_page(search: Search) -> None:
    first = page(run("run_1"), run("run_2", "other/abc"), has_more=True, last_id="run_2")
    result = search("hash/abc", first, page(run("run_3", "hash/abc")))
    assert found_id(result) == "run_3"
    assert result.ref is not None
    assert (result.ref.thread_id, result.ref.conn_id) == ("thread_1", "ai")


def test_the_newest_run_is_found_by_the_first_part_of_its_token(search: Search) -> None:
    listed = [run("run_1", "hash/a", age=10), run("run_2", "hash/b", age=30), run("run_3", "hash/c", age=30)]
    assert found_id(search("hash/", page(*listed))) == "run_2"


def test_a_run_of_an_earlier_dag_run_of_the_same_name_is_not_ours(search: Search) -> None:
    assert found_id(search("hash/", page(run("run_1", "hash/a", age=-86400)))) is None


def test_a_whole_token_is_ours_whatever_the_clock_of_the_server_says(search: Search) -> None:
    assert found_id(search("hash/a", page(run("run_1", "hash/a", age=-86400)))) == "run_1"
    assert found_id(search("hash/a", page(run("run_1", "hash/a", created_at=None)))) == "run_1"


def test_runs_of_others_prove_that_ours_is_not_there(search: Search) -> None:
    assert found_id(search("hash/abc", page(run("run_1"), run("run_2", "other/abc")))) is None
    assert found_id(search("hash/abc", page())) is None


@pytest.mark.parametrize("created_at", [SINCE, SINCE - 100, float(SINCE), SINCE * 1000, None])
def test_a_server_that_does_not_echo_metadata_proves_nothing(search: Search, created_at: object) -> None:
    result = search("hash/abc", page({"id": "run_1", "metadata": None, "created_at": created_at}))
    assert result == SearchResult(ref=None, conclusive=False)


def test_nameless_runs_from_long_before_prove_nothing_against_us(search: Search) -> None:
    old = {"id": "run_1", "metadata": {}, "created_at": SINCE - 16 * 3600}
    assert found_id(search("hash/abc", page(old))) is None


@pytest.mark.parametrize("behind", [600, 2 * 3600, 14 * 3600])
@pytest.mark.parametrize("metadata", [None, {}, {"source": "gateway"}])
def test_neither_a_clock_nor_metadata_of_the_servers_own_make_a_run_somebody_elses(
    search: Search, metadata: object, behind: int
) -> None:
    one = {"id": "run_1", "metadata": metadata, "created_at": SINCE - behind}
    assert search("hash/abc", page(one)) == SearchResult(ref=None, conclusive=False)


def test_a_server_that_gives_any_token_back_would_have_given_back_ours(search: Search) -> None:
    others = {"id": "run_1", "metadata": {"source": "an app"}, "created_at": SINCE}
    assert found_id(search("hash/abc", page(others, run("run_2", "other/abc", age=-9 * 86_400)))) is None


MANY = [run(f"run_{number}", "other/abc") for number in range(20)]


@pytest.mark.parametrize(
    "listed",
    [
        {},
        {"data": None},
        {"data": {"run_1": {}}},
        {"runs": []},
        {"items": []},
        {"data": MANY},
        {"data": MANY[:3], "next_cursor": "abc"},
        {"data": MANY, "has_more": True},
    ],
    ids=lambda listed: ", ".join(listed) or "nothing",
)
def test_a_list_that_may_not_be_whole_proves_nothing(search: Search, listed: dict[str, Any]) -> None:
    """The last of them does not heed ``after``: it has the same twenty again."""
    assert search("hash/abc", listed, listed) == SearchResult(ref=None, conclusive=False)
    assert found_id(search("hash/abc", {"data": MANY[:19]})) is None


@pytest.mark.parametrize("run_id", [None, "", [], {}])
def test_a_run_of_ours_without_an_id_proves_nothing(search: Search, run_id: object) -> None:
    result = search("hash/abc", page(run(run_id, "hash/abc")))
    assert result == SearchResult(ref=None, conclusive=False)


def test_without_a_thread_nothing_is_proven(search: Search) -> None:
    assert search("hash/abc", thread_id=None) == SearchResult(ref=None, conclusive=False)


def test_a_search_that_fails_says_so(search: Search) -> None:
    with pytest.raises(ApiRequestFailed):
        search("hash/abc", 404)
