# SPDX-License-Identifier: Apache-2.0
"""
What the codes of errors mean for a retry: one table, for failed requests and for failed runs.

A code counts whatever the HTTP status is that it comes with: gateways put one into a 429, a 500 or a 200.

Sources: ``openai.types.responses.ResponseError`` and ``openai.types.beta.threads.run.LastError`` (the SDK);
https://platform.openai.com/docs/guides/error-codes;
https://learn.microsoft.com/azure/foundry-classic/openai/how-to/quota (``tokens_limit_reached`` and 429s);
https://openrouter.ai/docs/api-reference/errors (numbers of HTTP as codes, in a 200, too);
https://platform.claude.com/docs/en/api/errors (``overloaded_error`` of gateways in front of it).
"""

from __future__ import annotations

import re
from enum import StrEnum


class CodeMeaning(StrEnum):
    """What may be done after an error with a known code."""

    #: The account cannot pay or is switched off: waiting does not help.
    ACCOUNT = "account"
    #: The request itself: it would fail again.
    PERMANENT = "permanent"
    #: A bad day of the server, or of what it depends on.
    TRANSIENT = "transient"


_ACCOUNT = frozenset(
    {
        *("insufficient_quota", "quota_exceeded", "billing_not_active", "billing_hard_limit_reached"),
        *("billing_limit_reached", "insufficient_credits", "insufficient_balance", "insufficient_funds"),
        *("credit_balance_too_low", "payment_required", "account_deactivated", "organization_deactivated"),
        *("account_suspended", "access_terminated", "billing_error", "exceeded_current_quota_error"),
        "budget_exceeded",
    }
)
_PERMANENT = frozenset(
    {
        *("context_length_exceeded", "context_window_exceeded", "max_context_length_exceeded"),
        *("string_above_max_length", "array_above_max_length", "tokens_limit_reached", "request_too_large"),
        *("prompt_too_long", "input_too_long", "max_tokens_exceeded", "tokens_exceeded_error"),
        *("exceed_context_size_error", "invalid_prompt", "invalid_json_schema"),
        *("invalid_function_parameters", "invalid_value", "invalid_type", "missing_required_parameter"),
        *("unknown_parameter", "unsupported_parameter", "unsupported_value", "unsupported_model"),
        *(
            "content_filter",
            "content_policy_violation",
            "moderation_blocked",
            "responsible_ai_policy_violation",
        ),
        *("model_not_found", "deployment_not_found", "data_residency_mismatch", "bio_policy"),
    }
)
_TRANSIENT = frozenset(
    {
        *("server_error", "internal_error", "internal_server_error", "api_error", "rate_limit_exceeded"),
        *("rate_limit_error", "requests", "tokens", "too_many_requests", "overloaded", "overloaded_error"),
        *("server_overloaded", "engine_overloaded", "service_unavailable", "timeout", "timeout_error"),
        *("vector_store_timeout", "external_connector_error", "upstream_error", "no_capacity", "slow_down"),
    }
)
#: Families of codes of a run that failed. Not for requests: an unknown code in a 500 says nothing of whether
#: the server acted on it.
_PERMANENT_OF_RUN = re.compile(
    r"^(invalid_|unsupported_|image_|empty_|failed_to_download|data_residency|content_|authentication_|permission_)"
    r"|_policy(_violation)?$|(^|_)not_found(_error)?$|(context|prompt|input)_\w*(exceeded|too_long)$"
)
#: Sentences by which some servers say the same under a code such as ``rate_limit_exceeded``, or under none.
_ACCOUNT_TEXT = re.compile(r"(?i)exceeded your current quota|check your (plan and )?billing details")
_PERMANENT_TEXT = re.compile(
    r"(?i)\brequest too large for\b|maximum (context|model) length|\binput tokens exceed\b"
    r"|exceeds the (model's |available |maximum )?(context (window|size|length)|number of tokens(?! per))"
    r"|\b(prompt|input) is too long\b"
)
#: A file that was just uploaded, of which most servers tell no code.
_TRANSIENT_TEXT = re.compile(
    r"(?i)\bfiles?\b.*\b((still |currently |being )+process(ed|ing)"
    r"|not (yet )?(been )?(fully )?(processed|ready))\b"
)
#: Codes of a server that had no room for a request, and names that mean the same.
_NO_ROOM = frozenset(
    {
        *("rate_limit_exceeded", "rate_limit_error", "too_many_requests", "overloaded", "overloaded_error"),
        *("server_overloaded", "engine_overloaded", "no_capacity", "slow_down"),
    }
)
#: The same in a sentence. Not *no healthy upstream*: a mesh says so after one has taken the request, too.
_NO_MODEL_YET = re.compile(
    r"(?i)^(the )?model \S+ is (currently |still )?(being loaded|loading)\b|^loading model\b"
)
#: A word between two capitals, as in ``ContextLengthExceeded``.
_BETWEEN_CAPITALS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\s-]+")
_STATUS = range(400, 600)
_STATUS_ACCOUNT = 402
_STATUS_TRANSIENT = frozenset({408, 409, 423, 424, 425, 429, 499})
_STATUS_NOT_IMPLEMENTED = 501
_SERVER_ERROR = 500


def meaning_of(codes: tuple[object, ...], text: str = "") -> CodeMeaning | None:
    """
    Return what an error means; None if nothing in it is known.

    :param codes: its ``code`` and its ``type``, the more exact one first; a number is one of HTTP.
    :param text: the server's sentence.
    """
    if _PERMANENT_TEXT.search(text):
        return CodeMeaning.PERMANENT
    if _TRANSIENT_TEXT.search(text):
        return CodeMeaning.TRANSIENT
    for code in codes:
        if (found := _meaning_of_code(code)) is not None:
            return found
    return None


def meaning_of_run(codes: tuple[object, ...], text: str = "") -> CodeMeaning | None:
    """
    Return what the error of a run that failed, or was never started, means; parameters as of ``meaning_of``.

    A 429 is taken at its word; a run that failed names its quota in a sentence only.
    """
    if _ACCOUNT_TEXT.search(text):
        return CodeMeaning.ACCOUNT
    found = meaning_of(codes, text)
    if found is None and any(_PERMANENT_OF_RUN.search(_name_of(code)) for code in codes):
        return CodeMeaning.PERMANENT
    return found


def was_not_taken(codes: tuple[object, ...], text: str = "") -> bool:
    """Return whether a server error says that nobody has begun with the request; parameters as above."""
    return any(_name_of(code) in _NO_ROOM for code in codes) or _NO_MODEL_YET.search(text) is not None


def _name_of(code: object) -> str:
    """Return a code as OpenAI would write it."""
    if not isinstance(code, str | int) or isinstance(code, bool):
        return ""
    return _BETWEEN_CAPITALS.sub("_", str(code).strip()).lower()


def _meaning_of_code(code: object) -> CodeMeaning | None:
    name = _name_of(code)
    if name.isdecimal() and len(name) == 3 and int(name) in _STATUS:  # noqa: PLR2004
        return _meaning_of_status(int(name))
    for meaning, names in (
        (CodeMeaning.ACCOUNT, _ACCOUNT),
        (CodeMeaning.PERMANENT, _PERMANENT),
        (CodeMeaning.TRANSIENT, _TRANSIENT),
    ):
        if name in names:
            return meaning
    return None


def _meaning_of_status(status: int) -> CodeMeaning:
    if status == _STATUS_ACCOUNT:
        return CodeMeaning.ACCOUNT
    if status in _STATUS_TRANSIENT or (status >= _SERVER_ERROR and status != _STATUS_NOT_IMPLEMENTED):
        return CodeMeaning.TRANSIENT
    return CodeMeaning.PERMANENT
