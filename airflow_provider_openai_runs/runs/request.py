# SPDX-License-Identifier: Apache-2.0
"""What is asked for: arguments of an operator, checked and translated, before anything is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import RunKind, noun_of
from airflow_provider_openai_runs.runs.tools import checked_tools


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """
    A run to create.

    :param body: the API's own arguments; ``tools`` in the nested form.
    :param thread_id: the thread of a thread run.
    :param thread: the thread to create first, in place of ``thread_id``.
    :param warnings: what a user should know about the arguments, for the log.
    :param answers: the run whose calls are to be answered, in place of creating one.
    """

    kind: str
    body: Mapping[str, Any]
    thread_id: str | None = None
    thread: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    answers: RunRef | None = None

    @property
    def noun(self) -> str:
        """Return the kind as people read it."""
        return noun_of(self.kind)

    def that_created(self, ref: RunRef) -> RunRequest | None:
        """Return this request, unless ``ref`` is the run that it answers: another one created that."""
        return None if ref == self.answers else self

    def fingerprint(self) -> dict[str, str]:
        """Return a short hash of each argument."""
        return fingerprint({**self.body, "thread_id": self.thread_id, "thread": self.thread})


@dataclass(slots=True, kw_only=True)
class _Checked:
    """Arguments on their way into a request: None is left out, everything else is checked by name."""

    arguments: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        given = {name: value for name, value in self.arguments.items() if value is not None}
        extra = given.pop("extra_body", None)
        if given.pop("stream_for_tool", None) is not None:
            self.warnings.append("stream_for_tool was never a parameter of runs; it is not sent")
        body = {name: self._check(name, value) for name, value in given.items()}
        if extra is None:
            return body
        more = checks.mapping("extra_body", extra)
        if twice := sorted(set(more) & set(body)):
            raise checks.invalid("extra_body", more, f"repeats the argument {twice[0]!r}")
        if more.get("stream"):
            raise checks.invalid("extra_body", more, "a run that is waited for cannot stream")
        # The wire reads these two; whatever else is in there goes out as it is, that is its point.
        for name in {"tools", "metadata"} & set(more):
            more[name] = self._check(name, more[name])
        return {**body, **more}

    def _check(self, name: str, value: Any) -> Any:
        match name:
            case "temperature":
                return checks.number(name, value, low=0, high=2)
            case "top_p":
                return checks.number(name, value, low=0, high=1)
            case "max_completion_tokens" | "max_prompt_tokens" | "max_output_tokens" | "max_tool_calls":
                return checks.count(name, value)
            case "metadata":
                return checks.metadata(value)
            case "tools":
                return checked_tools(value, warnings=self.warnings)
            case "reasoning" | "text" | "background_options" | "truncation_strategy":
                return checks.mapping(name, value)
            case "background" | "store" | "parallel_tool_calls":
                return checks.flag(name, value)
            case "additional_messages" | "include":
                return checks.sequence(name, value)
            case "assistant_id" | "model" | "previous_response_id":
                return checks.text(name, value)
            case _:
                return value


def thread_run_request(
    *,
    thread_id: str | None = None,
    thread: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    max_completion_tokens: int | None = None,
    **arguments: Any,
) -> RunRequest:
    """
    Check the arguments of a thread run.

    :param max_tokens: the contract's name; sent as ``max_completion_tokens``.
    :raises RunRequestError: naming argument, value and rule.
    """
    check_thread_run_presence(thread_id=thread_id, thread=thread, assistant_id=arguments.get("assistant_id"))
    if max_tokens is not None and max_completion_tokens is not None:
        raise RunRequestError(
            f"max_tokens={max_tokens!r} and max_completion_tokens={max_completion_tokens!r} are the same "
            "limit under its old and its new name; give one. Nothing was sent."
        )
    if max_tokens is not None:
        max_completion_tokens = checks.count("max_tokens", max_tokens)
    checked = _Checked(arguments={**arguments, "max_completion_tokens": max_completion_tokens})
    body = checked.body()
    return RunRequest(
        kind=RunKind.THREAD_RUN,
        body=body,
        thread_id=None if thread_id is None else checks.text("thread_id", thread_id),
        thread=None if thread is None else _thread(thread),
        warnings=tuple(checked.warnings),
    )


def response_request(*, conversation: str | Mapping[str, Any] | None = None, **arguments: Any) -> RunRequest:
    """
    Check the arguments of a background response.

    ``background`` and ``store`` are true unless given: without ``store`` some projects delete the
    answer ten minutes after its end (https://developers.openai.com/api/docs/guides/background).

    :raises RunRequestError: naming argument, value and rule.
    """
    check_response_presence(
        input=arguments.get("input"),
        conversation=conversation,
        previous_response_id=arguments.get("previous_response_id"),
    )
    for name in ("background", "store"):
        if arguments.get(name) is None:
            arguments[name] = True
    if conversation is not None and not isinstance(conversation, Mapping):
        conversation = checks.text("conversation", conversation)
    checked = _Checked(arguments={**arguments, "conversation": conversation})
    body = checked.body()
    return RunRequest(kind=RunKind.RESPONSE, body=body, warnings=tuple(checked.warnings))


def check_thread_run_presence(*, thread_id: object, thread: object, assistant_id: object) -> None:
    """
    Check what must be there, and only that: before templates are rendered, values say nothing.

    :raises RunRequestError: naming the arguments.
    """
    if (thread_id is None) == (thread is None):
        raise RunRequestError(
            f"Give either thread_id or thread, not {'neither' if thread is None else 'both'}: thread_id "
            "runs on an existing thread, thread={'messages': [...]} creates one first. Nothing was sent."
        )
    if assistant_id is None:
        raise checks.invalid("assistant_id", None, "is required")


def check_response_presence(*, input: object, conversation: object, previous_response_id: object) -> None:  # noqa: A002
    """
    Check what must be there, and only that.

    :raises RunRequestError: naming the arguments.
    """
    if conversation is not None and previous_response_id is not None:
        raise RunRequestError(
            f"conversation={conversation!r} and previous_response_id={previous_response_id!r} exclude each "
            "other: a response continues either a conversation or another response. Nothing was sent."
        )
    if input is None:
        raise checks.invalid("input", None, "is required: the prompt, or a list of input items")


def checked_timeouts(value: object) -> dict[str, float]:
    """Return the budgets of create, read and delete in seconds; what is not given has its default."""
    given = checks.mapping("timeouts", value or {})
    if unknown := sorted(set(given) - set(DEFAULT_TIMEOUTS)):
        raise checks.invalid("timeouts", given, f"knows create, read and delete, not {unknown[0]!r}")
    return DEFAULT_TIMEOUTS | {
        name: checks.seconds(f"timeouts[{name!r}]", seconds) for name, seconds in given.items()
    }


def _thread(value: object) -> dict[str, Any]:
    thread = checks.mapping("thread", value)
    if "messages" in thread:
        for place, message in enumerate(checks.sequence("thread['messages']", thread["messages"])):
            if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
                raise checks.invalid(f"thread['messages'][{place}]", message, "needs 'role' and 'content'")
    return thread


def fingerprint(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return a short hash of each argument; never the argument itself, which may be a prompt."""
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
        for name, value in arguments.items()
    }
