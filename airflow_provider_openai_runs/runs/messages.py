# SPDX-License-Identifier: Apache-2.0
"""What a model is asked: a prompt, input items, messages, a prompt template; never a blank one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.named_ids import check_is_no_result

#: What ``str.strip`` leaves of a text that shows nothing: zero-width characters.
_INVISIBLE = "\u200b\u2060\ufeff"
#: Types of the parts of a message that are text.
_TEXTS = frozenset({"input_text", "text", "output_text"})
#: Roles whose messages say how to answer, or what was answered before.
_NOT_ASKING = frozenset({"system", "developer", "assistant"})
_MANY = (
    "is a list of texts, and not of input items such as {'role': 'user', 'content': ...}. "
    "For one run each, write "
    ".expand(input=...), or BulkCreateResponsesOperator(items=...); for one prompt, join them to one text"
)
_BLANK = f"is blank, and the model would be paid for answering nothing{checks.FROM_A_TEMPLATE}"


def is_blank(text: object) -> bool:
    """Whether a value asks nothing: None, the word None of a template, white space, a list of only such."""
    parts = [text]
    while parts:  # a list may be deeper than calls can be
        part = parts.pop()
        if isinstance(part, list):
            parts.extend(part)
        elif not _shows_nothing(part):
            return False
    return True


def _shows_nothing(part: object) -> bool:
    if isinstance(part, str):
        return part.strip().strip(_INVISIBLE).strip() in {"", "None"}
    return part is None or (isinstance(part, Mapping) and not part)


def checked_input(value: Any) -> str | list[Any]:
    """
    Require a prompt, or a list of input items, that asks something.

    A number, or other data without input items, is the text that a template was before Airflow rendered it
    natively.
    """
    if is_blank(value):
        raise checks.invalid("input", value, _BLANK)
    check_is_no_result("input", value, meant="output_text")
    if isinstance(value, Mapping) and {"role", "content"} <= value.keys():
        raise checks.invalid("input", value, "is one message, and must be a list of them: write input=[...]")
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        raise checks.invalid("input", value, _MANY)
    if not isinstance(value, (list, tuple)) or not any(isinstance(item, Mapping) for item in value):
        return checks.as_text(value)
    items = checked_messages("input", value)
    asking = [
        (place, item)
        for place, item in enumerate(items)
        if not (_is_message(item) and item.get("role") in _NOT_ASKING)
    ]
    if asking and all(_is_message(item) and _says_nothing(item["content"]) for _, item in asking):
        place, item = asking[0]
        raise checks.invalid(f"input[{place}]['content']", item["content"], _BLANK)
    if not asking and all(_says_nothing(item["content"]) for item in items):
        raise checks.invalid("input[0]['content']", items[0]["content"], _BLANK)
    return items


def checked_messages(name: str, value: object) -> list[Any]:
    """Require messages or input items; their text may have been rendered to a number."""
    return [
        _with_text(checks.mapping(f"{name}[{place}]", item))
        for place, item in enumerate(checks.sequence(name, value))
    ]


def checked_thread(value: object) -> dict[str, Any]:
    """Require a thread to create, whose messages are not blank."""
    thread = checks.mapping("thread", value)
    if thread.get("messages") is None:
        return thread
    name = "thread['messages']"
    for place, message in enumerate(checks.sequence(name, thread["messages"])):
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise checks.invalid(f"{name}[{place}]", message, "needs 'role' and 'content'")
    thread["messages"] = checked_messages(name, thread["messages"])
    check_says_something(name, thread["messages"])
    return thread


def check_says_something(name: str, messages: list[Any]) -> None:
    """
    Refuse a message of a thread that says nothing: the API refuses an empty one, and is paid for a *None*.

    :raises RunRequestError: naming its place.
    """
    for place, message in enumerate(messages):
        if "content" in message and _says_nothing(message["content"]):
            raise checks.invalid(f"{name}[{place}]['content']", message["content"], _BLANK)


def checked_prompt(value: object) -> dict[str, Any]:
    """Require the API's own prompt template, ``{"id": ...}``, as a dict or as its JSON text."""
    check_is_template(value)
    prompt = checks.json_object("prompt", value)
    checks.text("prompt['id']", prompt.get("id"))
    if isinstance(variables := prompt.get("variables"), Mapping):
        prompt["variables"] = {
            key: item if item is None or isinstance(item, (str, Mapping)) else checks.as_text(item)
            for key, item in variables.items()
        }
    return prompt


def checked_conversation(name: str, value: object) -> Any:
    """Require the id of a conversation, or the object that the API takes in its place."""
    if isinstance(value, Mapping):
        checks.text(f"{name}['id']", value.get("id"))
        return value
    return checks.text(name, value)


def check_is_template(value: object) -> None:
    """
    Refuse a text where a prompt template belongs; one with a brace may be JSON, or a template of Airflow's.

    :raises RunRequestError: naming ``input``.
    """
    if isinstance(value, str) and "{" not in value:
        raise RunRequestError(
            f"{checks.shown('prompt', value)}: a prompt is a template of the API, {{'id': 'pmpt_...'}}; the "
            "text that the model is to answer is input=... Nothing was sent."
        )


def _with_text(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list):
        content = [
            {**part, "text": checks.as_text(part["text"])}
            if isinstance(part, Mapping) and part.get("type") in _TEXTS and _is_scalar(part.get("text"))
            else part
            for part in content
        ]
    elif _is_scalar(content) or isinstance(content, Mapping):
        content = checks.as_text(content)
    return {**message, "content": content} if "content" in message else message


def _is_scalar(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def _is_message(item: Mapping[str, Any]) -> bool:
    return item.get("type", "message") == "message" and "content" in item


def _says_nothing(content: object) -> bool:
    if not isinstance(content, list):
        return is_blank(content)
    return all(
        isinstance(part, Mapping) and part.get("type") in _TEXTS and is_blank(part.get("text"))
        for part in content
    )
