# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_openai_runs.runs.error_codes import CodeMeaning, meaning_of, meaning_of_run
from airflow_provider_openai_runs.runs.failure import bounded_retry_after

ACCOUNT, PERMANENT, TRANSIENT = CodeMeaning.ACCOUNT, CodeMeaning.PERMANENT, CodeMeaning.TRANSIENT


@pytest.mark.parametrize(
    ("codes", "text", "meaning"),
    [
        (("insufficient_quota", None), "", ACCOUNT),
        ((None, "billing_not_active"), "", ACCOUNT),
        (("billing_hard_limit_reached", "invalid_request_error"), "", ACCOUNT),
        ((402, None), "Insufficient credits.", ACCOUNT),
        (("context_length_exceeded", "server_error"), "", PERMANENT),
        (("string_above_max_length", None), "", PERMANENT),
        (("rate_limit_exceeded", "tokens"), "Request too large for gpt-4o on tokens per min", PERMANENT),
        ((None, None), "This model's maximum context length is 4096 tokens.", PERMANENT),
        (("400", None), "", PERMANENT),
        ((429, None), "", TRANSIENT),
        (("503", None), "", TRANSIENT),
        (("rate_limit_exceeded", "requests"), "Rate limit reached for gpt-4o", TRANSIENT),
        (("overloaded_error", None), "", TRANSIENT),
        (("RateLimit", None), "", None),
        (("ContextLengthExceeded", None), "", PERMANENT),
        (("ResponsibleAIPolicyViolation", None), "", PERMANENT),
        (("TooManyRequests", None), "", TRANSIENT),
        (("budget_exceeded", None), "Budget has been exceeded!", ACCOUNT),
        ((None, None), "litellm.RateLimitError: OpenAIException - Request too large for gpt-6", PERMANENT),
        ((None, None), "The prompt (length 50) is longer than the maximum model length of 40.", PERMANENT),
        ((None, None), "prompt is too long: 210000 tokens > 200000 maximum", PERMANENT),
        ((None, None), "Input is too long for requested model.", PERMANENT),
        ((None, None), "Input tokens exceed the configured limit of 272000 tokens.", PERMANENT),
        ((None, None), "The input token count (12) exceeds the maximum number of tokens allowed", PERMANENT),
        ((429, None), "This exceeds the maximum number of tokens per minute", TRANSIENT),
        ((None, None), "File is being processed. Please try again later.", TRANSIENT),
        (("invalid_file", None), "The file file-1 is still being processed.", TRANSIENT),
        ((None, None), "File file-1 has not yet been fully processed", TRANSIENT),
        ((None, None), "The file could not be processed", None),
        ((None, None), "", None),
        ((True, ["a"]), "", None),
    ],
)
def test_a_code_means_the_same_whatever_it_comes_with(
    codes: tuple[object, ...], text: str, meaning: CodeMeaning | None
) -> None:
    assert meaning_of(codes, text) is meaning
    assert meaning_of_run(codes, text) is meaning


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        ("image_too_large", "", PERMANENT),
        ("misalignment_policy_violation", "", PERMANENT),
        ("image_file_not_found", "", PERMANENT),
        ("invalid_anything", "", PERMANENT),
        ("authentication_error", "", PERMANENT),
        ("permission_denied", "", PERMANENT),
        ("not_found_error", "The model m does not exist", PERMANENT),
        ("rate_limit_exceeded", "You exceeded your current quota, please check your plan.", ACCOUNT),
        ("rate_limit_exceeded", "Rate limit reached", TRANSIENT),
        ("vector_store_timeout", "", TRANSIENT),
        ("a_bad_day", "", None),
    ],
)
def test_a_run_that_failed_has_families_of_codes_and_sentences_besides(
    code: str, text: str, meaning: CodeMeaning | None
) -> None:
    assert meaning_of_run((code,), text) is meaning


@pytest.mark.parametrize(
    ("seconds", "bounded"), [(None, None), (0, 1), (7, 7), (31_536_000, 3600), (float("inf"), 3600)]
)
def test_no_server_makes_a_task_wait_for_a_year(seconds: float | None, bounded: float | None) -> None:
    assert bounded_retry_after(seconds) == bounded
