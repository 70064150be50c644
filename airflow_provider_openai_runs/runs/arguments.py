# SPDX-License-Identifier: Apache-2.0
"""Arguments of a create on their way into its body: each becomes JSON, and is checked by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.messages import (
    checked_conversation,
    checked_input,
    checked_messages,
    checked_prompt,
)
from airflow_provider_openai_runs.runs.tools import checked_tools

_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "temperature": partial(checks.number, low=0, high=2),
    "top_p": partial(checks.number, low=0, high=1),
    "top_logprobs": partial(checks.count, low=0, high=20),
    "metadata": lambda _, value: checks.metadata(value),
    "input": lambda _, value: checked_input(value),
    "prompt": lambda _, value: checked_prompt(value),
    "conversation": checked_conversation,
    "additional_messages": checked_messages,
    **dict.fromkeys(
        ("max_completion_tokens", "max_prompt_tokens", "max_output_tokens", "max_tool_calls"), checks.count
    ),
    **dict.fromkeys(
        (
            "access_programs",
            "background_options",
            "image",
            "moderation",
            "prompt_cache_options",
            "reasoning",
            "text",
            "truncation_strategy",
        ),
        checks.mapping,
    ),
    **dict.fromkeys(("background", "store", "parallel_tool_calls"), checks.flag),
    **dict.fromkeys(("include", "context_management"), checks.sequence),
    **dict.fromkeys(
        (
            "assistant_id",
            "model",
            "previous_response_id",
            "prompt_cache_retention",
            "reasoning_effort",
            "service_tier",
            "truncation",
        ),
        checks.text,
    ),
    **dict.fromkeys(
        ("additional_instructions", "instructions", "prompt_cache_key", "safety_identifier", "user"),
        checks.free_text,
    ),
}
#: What the wire or a decision reads; whatever else is in ``extra_body`` goes out as it is, that is its point.
_READ = frozenset({"tools", "metadata", "input", "prompt", "store", "background"})


@dataclass(slots=True, kw_only=True)
class Arguments:
    """
    The arguments of a create by name; None is left out.

    :param warnings: receives what a user should know about them.
    """

    given: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """
        Return the body of the request.

        :raises RunRequestError: naming argument, value and rule.
        """
        given = {name: value for name, value in self.given.items() if value is not None}
        extra = given.pop("extra_body", None)
        if given.pop("stream_for_tool", None) is not None:
            self.warnings.append("stream_for_tool was never a parameter of runs; it is not sent")
        check_no_stream(given)
        body = {name: self._checked(name, as_json(name, value)) for name, value in given.items()}
        if extra is None:
            return body
        more = checks.mapping("extra_body", as_json("extra_body", extra))
        if twice := sorted(set(more) & set(body)):
            raise checks.invalid("extra_body", more, f"repeats the argument {twice[0]!r}")
        check_no_stream(more, within="extra_body")
        return {**body, **{n: self._checked(n, v) if n in _READ else v for n, v in more.items()}}

    def _checked(self, name: str, value: Any) -> Any:
        if name == "tools":
            return checked_tools(value, warnings=self.warnings)
        check = _CHECKS.get(name)
        return value if check is None else check(name, value)


def check_no_stream(given: dict[str, Any], *, within: str = "") -> None:
    """
    Refuse to stream, and drop what says not to.

    :param within: the argument that ``given`` is.
    :raises RunRequestError: naming the argument.
    """
    for name in ("stream", "stream_options"):
        value = given.pop(name, None)
        if value is None or value is False or str(value).strip().lower() == "false":
            continue
        where = f"{within}[{name!r}]" if within else name
        raise checks.invalid(
            where,
            value,
            "a run that is waited for cannot stream: its answer is read once it has ended; leave it out",
        )
