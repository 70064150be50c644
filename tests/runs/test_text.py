# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.redaction import Redactor, carries_secret
from airflow_provider_openai_runs.runs.text import MAX_ID, MAX_MESSAGE, is_id, message_text

#: Every character there is, lone surrogates and NUL among them.
ANY_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("\0\n\r\t\x1b\x85\u2028\u202e\ud800")
)


@given(text=ANY_TEXT, limit=st.integers(min_value=1, max_value=80))
def test_message_text_is_one_line_within_its_limit_that_can_be_encoded(text: str, limit: int) -> None:
    shown = message_text(text, limit=limit)

    assert len(shown) <= limit
    assert shown.encode().decode() == shown
    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert message_text(shown, limit=limit) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x1b]8;;http://evil.example\x07click", r"\x1b]8;;http://evil.example\x07click"),
        ("refund \u202e001\u202c EUR", r"refund \u202e001\u202c EUR"),
        ("\x9b31m", r"\x9b31m"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("two\r\nlines\tand  more ", "two lines and more"),
        ("next\x85line\u2028and", r"next\x85line\u2028and"),
        ("half \ud83d", "half \ufffd"),
        ("a\0b", "a\ufffdb"),
        ("Grüße, 世界 🎉", "Grüße, 世界 🎉"),
        (None, "None"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: object, shown: str) -> None:
    assert message_text(text) == shown


def test_whatever_fails_to_say_what_it_is_is_named_by_its_type() -> None:
    assert message_text(10**5000) == "<int>"


@pytest.mark.parametrize(
    "text", ["x" * 3_000_000, "\u202e" * 3_000_000, "x " * 1_500_000, " " * 3_000_000], ids=len
)
def test_the_text_is_cut_before_it_is_worked_on(text: str) -> None:
    began = time.process_time()
    shown = message_text(text)

    assert time.process_time() - began < 0.1
    assert len(shown) <= MAX_MESSAGE
    assert shown.endswith("…")


@pytest.mark.parametrize(
    "text",
    [
        "token limit: 5",
        "token: 5",
        "The api-version=2024-10-21 is not supported, use api-version=preview.",
        "Host token.example.com of key any is not known",
        "password: any",
        "Bearer authentication is required",
        "Authorization: missing",
        "max_tokens=30000 is too large; tokens: 29000",
        "sort_key=created_at",
    ],
)
def test_words_that_are_no_secret_survive(text: str) -> None:
    assert message_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://host/v1?api-version=1&sig=abcdef123456&x=1", "https://host/v1?api-version=1&sig=***&x=1"),
        ("https://host/v1?key=abcdef123456", "https://host/v1?key=***"),
        ("api-key=abcdef123456&api-version=preview", "api-key=***&api-version=preview"),
        ("with eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl only", "with *** only"),
    ],
)
def test_keys_in_a_url_are_taken_out_and_the_rest_stays(text: str, shown: str) -> None:
    assert message_text(text) == shown


def test_the_secrets_of_a_connection_are_taken_out_wherever_they_stand() -> None:
    redact = Redactor(["correct horse/battery", "Bearer gateway-credential", "EMPTY", "any"])

    shown = message_text(
        "'correct horse/battery' and correct%20horse%2Fbattery, not gateway-credential; EMPTY for any",
        redact=redact,
    )
    assert shown == "'***' and ***, not ***; EMPTY for any"


@given(before=st.integers(min_value=0, max_value=12_000), limit=st.integers(min_value=20, max_value=500))
@example(before=8_053, limit=20)
def test_no_cut_leaves_a_part_of_a_secret(before: int, limit: int) -> None:
    secret = "correct-horse-battery-staple"
    shown = message_text(" " * before + secret + " x" * 6000, limit=limit, redact=Redactor([secret]))

    assert "correct" not in shown


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("Authorization", True),
        ("api-key", True),
        ("Ocp-Apim-Subscription-Key", True),
        ("sig", True),
        ("access_token", True),
        ("api-version", False),
        ("OpenAI-Beta", False),
        ("keyboard", False),
    ],
)
def test_secrets_are_known_by_the_names_of_their_fields(name: str, *, secret: bool) -> None:
    assert carries_secret(name) is secret


@pytest.mark.parametrize(
    "text", ["resp_1", "thread_abc.def-1", "a/b c", "ключ", "resp_" + "A" * 250, "resp_sk-abcdefgh12345678"]
)
def test_an_id_may_be_whatever_a_server_likes(text: str) -> None:
    assert is_id(text)
    assert RunRef.from_json({"kind": "response", "id": text}).id == text


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "a\nb", "a\0b", "a\ud800", "a\u202eb", "a\x1b[0m", " a", "a ", "x" * (MAX_ID + 1)],
)
def test_an_id_that_nothing_can_carry_is_none(text: str) -> None:
    assert not is_id(text)
    for ref in (
        {"kind": "response", "id": text},
        {"kind": "thread_run", "id": "run_1", "thread_id": text},
    ):
        with pytest.raises(RunRequestError) as caught:
            RunRef.from_json(ref)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


def test_a_busy_run_is_not_read_from_a_path() -> None:
    shown = "Thread thread_1 already has an active run .. is active"
    assert RequestFailure(kind=FailureKind.REJECTED, text=shown, http_status=400).active_run_id is None
