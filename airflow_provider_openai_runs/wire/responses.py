# SPDX-License-Identifier: Apache-2.0
"""Background responses (https://developers.openai.com/api/docs/guides/background)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from airflow_provider_openai_runs.runs.acquisition import SearchResult
from airflow_provider_openai_runs.runs.checks import TOKEN_KEY
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.model import PollResult, Run, RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind
from airflow_provider_openai_runs.wire import reading
from airflow_provider_openai_runs.wire.errors import ApiRequestFailed
from airflow_provider_openai_runs.wire.protocol import Answer, ApiReply, ApiRequest, Flow, Receiver
from airflow_provider_openai_runs.wire.response_calls import is_open_in
from airflow_provider_openai_runs.wire.response_outputs import failed_item, output_item
from airflow_provider_openai_runs.wire.response_replies import read_created, read_poll, read_run

_OPENAI_HOST = ".api.openai.com"
_OPENAI_LOGS = "https://platform.openai.com/logs/{id}"
#: Of the items of a conversation, as many as a page has.
_NEWEST_ITEMS = 100
#: How servers say that they have no list of a conversation's items.
_ROUTE_IS_MISSING = frozenset({404, 405, 501})
#: What a conversation holds in place of an answer that nobody is going to give.
_GAVE_UP = "Error: the task that was to answer this call has given up; there is no result."


class ResponsesWire:
    """Requests and replies of background responses."""

    can_search = False
    answers_in_place = False

    def create_thread_for(self, request: RunRequest) -> ApiRequest[str] | None:
        """Return nothing: a conversation is created by its user."""
        del request
        return None

    def create(self, request: RunRequest, *, token: str | None, conn_id: str) -> ApiRequest[Run]:
        """Start a response."""
        body = dict(request.body)
        if "tools" in body:
            body["tools"] = [_flat(tool) for tool in body["tools"]]
        if request.closing:
            body["input"] = [*request.closing, *_input_items(body.get("input"))]
        if token is not None:
            body["metadata"] = {**body.get("metadata", {}), TOKEN_KEY: token}

        def read(reply: ApiReply) -> Run:
            run = read_created(reply.data, request=request, conn_id=conn_id)
            # Gateways that ignore ``background`` often keep nothing that could be read once more.
            return replace(run, body=reply.content) if run.status.is_terminal else run

        return ApiRequest(method="POST", path="/responses", body=body, read=read, pays=True)

    def poll(self, ref: RunRef) -> ApiRequest[PollResult]:
        """Ask how the response is doing."""
        return ApiRequest(method="GET", path=_path(ref), read=read_poll, head_is_enough=True)

    def retrieve(
        self, ref: RunRef, request: RunRequest | None = None, *, include: Sequence[str] = ()
    ) -> ApiRequest[Run]:
        """Read the response with everything it says."""

        def read(reply: ApiReply) -> Run:
            return read_run(reply.data, ref=ref, request=request)

        query = {"include": list(include)} if include else {}
        return ApiRequest(method="GET", path=_path(ref), query=query, read=read)

    def complete(self, run: Run, *, steps: bool, include: Sequence[str] = ()) -> Flow[Run]:
        """Return the run as it is: a response brings its output along."""
        del include
        yield from ()
        return run if steps else replace(run, steps=None)

    def whole(
        self, ref: RunRef, request: RunRequest | None, receiver: Receiver, *, include: Sequence[str] = ()
    ) -> Flow[Run]:
        """Read the response; its body is the whole reply."""
        run: Run = yield replace(self.retrieve(ref, request, include=include), receiver=receiver)
        return run

    def cancel(self, ref: RunRef) -> ApiRequest[PollResult]:
        """End the response."""
        return ApiRequest(method="POST", path=f"{_path(ref)}/cancel", read=read_poll, head_is_enough=True)

    def search(self, *, thread_id: str | None, token: str, since: float, conn_id: str) -> Flow[SearchResult]:
        """Say that nobody knows: the API has no list of responses."""
        del thread_id, token, since, conn_id
        yield from ()
        return SearchResult(ref=None, conclusive=False)

    def answer(
        self, run: Run, outputs: Mapping[str, Answer], request: RunRequest | None, *, token: str | None
    ) -> ApiRequest[Run]:
        """
        Go on with a new response that holds the outputs.

        Tools and instructions are not carried over by the API, so they are sent again.

        :raises RunRequestError: if an answer is none that its call takes.
        """
        again = {} if request is None else dict(request.body)
        again.pop("previous_response_id", None)
        if run.ref.thread_id is not None:
            again["conversation"] = run.ref.thread_id
        else:
            again.pop("conversation", None)
            again["previous_response_id"] = run.ref.id
        calls = {call.id: call for call in run.tool_calls}
        again["input"] = [output_item(name, answer, calls.get(name)) for name, answer in outputs.items()]
        body = {"background": True, "store": True} | again
        body["model"] = body.get("model") or run.model
        next_request = RunRequest(
            kind=RunKind.RESPONSE, body={k: v for k, v in body.items() if v is not None}
        )
        return self.create(next_request, token=token, conn_id=run.ref.conn_id)

    def close(self, run: Run, *, conversation: str | None) -> Flow[str | None]:
        """
        Answer pending calls with an error in their conversation, which else refuses every response.

        The response itself shows its calls for ever: only the conversation knows which have an answer.
        """
        items = yield from self.unanswered(run, conversation=conversation)
        if not items:
            return None
        container = run.ref.thread_id or conversation
        yield ApiRequest(method="POST", path=_items(container), body={"items": list(items)}, read=_added)
        return container

    def unanswered(self, run: Run, *, conversation: str | None) -> Flow[tuple[dict[str, Any], ...]]:
        """Return the errors that answer pending calls; without a conversation, nothing waits for them."""
        container = run.ref.thread_id or conversation
        if container is None or not run.tool_calls:
            return ()
        newest = {"order": "desc", "limit": _NEWEST_ITEMS}
        try:
            reply: ApiReply = yield ApiRequest(
                method="GET", path=_items(container), query=newest, read=lambda r: r
            )
        except ApiRequestFailed as failed:
            if failed.failure.http_status not in _ROUTE_IS_MISSING:
                raise
            reply = ApiReply(data={})
        items, is_all = reading.objects_of(reply.data.get("data")), not reply.data.get("has_more")
        calls = [call for call in run.tool_calls if is_open_in(items, call, is_all=is_all)]
        return tuple(failed_item(call, _GAVE_UP) for call in calls)

    def output_format(self, *, name: str, schema: Mapping[str, Any], strict: bool) -> dict[str, Any]:
        """Return a ``text.format``."""
        return {"type": "json_schema", "name": name, "schema": schema, "strict": strict}

    def page_template(self, host: str) -> str | None:
        """Return OpenAI's log page of a response; no other server's is known."""
        return _OPENAI_LOGS if f".{host}".endswith(_OPENAI_HOST) else None

    def missing_route(self, failure: RequestFailure) -> str | None:
        """Return nothing: no server is known to have the route and to have lost it."""
        del failure
        return None


def _added(reply: ApiReply) -> None:
    if not isinstance(reply.data.get("data"), list):
        raise ValueError("it lists no items")  # noqa: TRY004 # no bug


def _items(conversation: str | None) -> str:
    return f"/conversations/{quote(conversation or '', safe='')}/items"


def _path(ref: RunRef) -> str:
    return f"/responses/{quote(ref.id, safe='')}"


def _input_items(given: Any) -> list[Any]:
    """Return an input as a list, as the API reads one that is text."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [{"role": "user", "content": given}]


def _flat(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool in the flat form of this API."""
    if tool.get("type") != "function":
        return dict(tool)
    function = {"parameters": {"type": "object", "properties": {}}, "strict": False, **tool["function"]}
    return {"type": "function", **function}


WIRE = ResponsesWire()

__all__ = ["WIRE", "ResponsesWire"]
