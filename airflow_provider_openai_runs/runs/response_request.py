# SPDX-License-Identifier: Apache-2.0
"""A background response to create: its arguments, checked and translated, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.arguments import Arguments
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.messages import check_is_template
from airflow_provider_openai_runs.runs.named_ids import check_is_no_result
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.status import RunKind

_ASKING = frozenset({"input", "prompt"})


def response_request(**arguments: Any) -> RunRequest:
    """
    Check the arguments of a background response.

    :raises RunRequestError: naming argument, value and rule.
    """
    check_response_presence(
        **{
            name: arguments.get(name)
            for name in ("input", "prompt", "conversation", "previous_response_id", "extra_body")
        }
    )
    return continuation_request(**arguments)


def continuation_request(
    *,
    output_format: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> RunRequest:
    """
    Check the arguments of a response whose input the package itself writes: the answers to calls.

    ``background`` and ``store`` are true unless given: without ``store`` some projects delete the
    answer ten minutes after its end (https://developers.openai.com/api/docs/guides/background).

    :param output_format: what asks for ``output_type``; sent within ``text``.
    :raises RunRequestError: naming argument, value and rule.
    """
    extra = arguments.get("extra_body")
    for name in ("background", "store"):
        if arguments.get(name) is None and not (isinstance(extra, Mapping) and name in extra):
            arguments[name] = True
    if output_format is not None:
        text = checks.mapping("text", as_json("text", arguments.get("text") or {}))
        check_no_format(text)
        arguments["text"] = {**text, "format": dict(output_format)}
    check_is_no_result("previous_response_id", arguments.get("previous_response_id"), meant="id")
    check_is_no_result("conversation", arguments.get("conversation"), meant="thread_id")
    checked = Arguments(given=arguments)
    body = checked.body()
    return RunRequest(kind=RunKind.RESPONSE, body=body, warnings=tuple(checked.warnings))


def check_no_format(text: object) -> None:
    """
    Refuse a format of the answer beside ``output_type``.

    :param text: the argument of a create; only a dict says anything.
    """
    if isinstance(text, Mapping):
        checks.not_given("text['format']", text.get("format"), sets="output_type")


def check_response_presence(
    *,
    input: object = None,  # noqa: A002 # the API's own name
    prompt: object = None,
    conversation: object = None,
    previous_response_id: object = None,
    extra_body: object = None,
) -> None:
    """
    Check what must be there, and only that: before templates are rendered, values say nothing.

    :raises RunRequestError: naming the arguments.
    """
    if conversation is not None and previous_response_id is not None:
        raise RunRequestError(
            f"conversation={conversation!r} and previous_response_id={previous_response_id!r} exclude each "
            "other: a response continues either a conversation or another response. Nothing was sent."
        )
    check_is_template(prompt)
    more = extra_body if isinstance(extra_body, Mapping) else {}
    # A text is the template of a dict, which may bring both.
    asks = input is not None or prompt is not None or _ASKING & set(more) or isinstance(extra_body, str)
    if not asks:
        raise checks.invalid(
            "input",
            None,
            "is required: the prompt, or a list of input items; or give a prompt template of the API, "
            "prompt={'id': ...}",
        )


def conversation_of(body: Mapping[str, Any]) -> str | None:
    """Return the id of the conversation that a request continues."""
    conversation = body.get("conversation")
    found = conversation.get("id") if isinstance(conversation, Mapping) else conversation
    return found if isinstance(found, str) else None


def check_can_be_answered(*, store: object, conversation: object) -> None:
    """
    Refuse calls whose answer nobody could take: it continues the response, which has to be kept for that.

    :param store: what is sent, or is to be rendered.
    :param conversation: which keeps the calls, too.
    :raises RunRequestError: before a function has run.
    """
    if store is False and conversation is None:
        raise RunRequestError(
            "store=False: the server does not keep the response, so that nobody could answer its calls "
            "(functions, approve). Leave store out, or give a conversation. Nothing was sent."
        )
