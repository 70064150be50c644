# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_openai_runs.runs.failure import FailureKind, RequestFailure
from airflow_provider_openai_runs.runs.text import MAX_MESSAGE, message_text

BUSY = "Thread thread_1 already has an active run run_7"
ALNUM = string.ascii_letters + string.digits
secrets = st.text(alphabet=ALNUM, min_size=12, max_size=60)
surroundings = st.text(alphabet=st.characters(exclude_characters=ALNUM), max_size=600)
FORMS = [
    "Incorrect API key provided: sk-{}.",
    "Incorrect API key provided: {}.",
    "sk-proj-{}",
    "key_sk-{}",
    "Bearer {}",
    "Authorization: Bearer {}",
    "authorization: basic {}",
    '{{"Authorization": "Bearer {}"}}',
    "{{'authorization': '{}'}}",
    "api-key={}",
    "x-api-key: {}",
    "OPENAI_API_KEY={}",
    "https://host/v1?api_key={}&x=1",
    "password = {}",
    "client_secret={}",
    '"access_token": "{}"',
    "proxy http://user:{}@10.0.0.1:8080 is down",
    "proxy http://{}@10.0.0.1:8080 is down",
]


@pytest.mark.parametrize("form", FORMS)
@given(secret=secrets, before=surroundings)
def test_a_secret_never_survives(form: str, secret: str, before: str) -> None:
    assume(secret[:8] not in form)
    assume(secret[-8:] not in form)
    assume(secret.lower() not in {"authentication", "authorization", "authorisation"})  # words stay
    shown = message_text(f"{before} {form.format(secret)} and more")
    assert secret[:8] not in shown
    assert secret[-8:] not in shown


@given(text=st.text(max_size=3000))
def test_text_of_a_server_is_one_short_line(text: str) -> None:
    shown = message_text(text)
    assert len(shown) <= MAX_MESSAGE
    assert shown.splitlines() in ([], [shown])


def test_plain_words_survive() -> None:
    text = "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000."
    assert message_text(text) == text


def test_long_text_shows_that_it_was_cut() -> None:
    assert message_text("x " * 1000).endswith("…")


@pytest.mark.parametrize(
    ("kind", "transient", "not_accepted"),
    [
        (FailureKind.NOT_SENT, True, True),
        (FailureKind.RETRY_LATER, True, True),
        (FailureKind.NOT_ACCEPTED, True, True),
        (FailureKind.OUTCOME_UNKNOWN, True, False),
        (FailureKind.NOT_FOUND, False, True),
        (FailureKind.ACCESS_DENIED, False, True),
        (FailureKind.NO_QUOTA, False, True),
        (FailureKind.REJECTED, False, True),
    ],
)
def test_what_may_be_tried_again(kind: FailureKind, *, transient: bool, not_accepted: bool) -> None:
    failure = RequestFailure(kind=kind, text="x")
    assert failure.is_transient is transient
    assert failure.not_accepted is not_accepted
    assert failure.may_be_sent_again is (kind in {FailureKind.NOT_SENT, FailureKind.RETRY_LATER})


@pytest.mark.parametrize(
    "text",
    [
        BUSY,
        f"{BUSY}.",
        f"{BUSY}. Wait for it.",
        "Can't add messages to thread_1 while a run run_7 is active.",
    ],
)
@pytest.mark.parametrize("status", [400, 409])
def test_the_run_that_keeps_a_thread_busy_is_read_from_the_message(text: str, status: int) -> None:
    assert RequestFailure(kind=FailureKind.REJECTED, text=text, http_status=status).active_run_id == "run_7"


@pytest.mark.parametrize(("text", "status"), [(BUSY, 500), ("There is no active run to cancel", 400)])
def test_other_failures_name_no_run(text: str, status: int) -> None:
    assert RequestFailure(kind=FailureKind.REJECTED, text=text, http_status=status).active_run_id is None


def test_a_locked_conversation_is_known_by_its_code() -> None:
    locked = RequestFailure(kind=FailureKind.REJECTED, text="x", code="conversation_locked")
    assert locked.conversation_locked
    assert not RequestFailure(kind=FailureKind.REJECTED, text="conversation_locked").conversation_locked


def test_people_see_the_http_status_where_there_was_one() -> None:
    assert str(RequestFailure(kind=FailureKind.OUTCOME_UNKNOWN, text="reset")) == "reset"
    assert (
        str(RequestFailure(kind=FailureKind.RETRY_LATER, text="slow down", http_status=429))
        == "HTTP 429: slow down"
    )
