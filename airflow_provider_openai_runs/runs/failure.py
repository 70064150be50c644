# SPDX-License-Identifier: Apache-2.0
"""What went wrong with one request, in the terms that the decisions need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_openai_runs.runs.budgets import FIRST_PAUSE, LONGEST_PAUSE, RETRY_AFTER_BOUNDS
from airflow_provider_openai_runs.runs.text import is_id

#: What a server calls an error, as against what it says of one.
_CODE = re.compile(r"[a-z0-9_]{1,40}")
#: How servers describe a route that they do not have; a thing that they do not know has a name, or an id.
ROUTE_IS_MISSING = re.compile(
    r"(?i)\binvalid url\b|\bcannot (get|post)\b|\bno such (endpoint|route)\b|"
    r"\b(route|endpoint|path|page) not found\b|\bunknown (request )?(url|route|endpoint|path)\b"
)
#: How servers say that they do not know a run: beside its noun, and with nothing of their own ways in it.
_RUN_IS_MISSING = re.compile(
    r"(?i)\b(?:no|unknown) (?:such )?(?:thread|run|response|conversation|batch|file)s?\b"
    r"|\b(?:thread|run|response|conversation|batch|file)\b[^/<]{0,80}"
    r"\b(?:(?:could )?not (?:be )?found|does not exist|doesn't exist|is unknown|has expired)\b"
)
_OF_A_GATEWAY = re.compile(
    r"(?i)\b(?:routes?|upstream|deployments?|gateway|backend|proxy|host|requested url|endpoint|method|app"
    r"|nginx)\b|<html"
)
_ACTIVE_RUN = re.compile(r"\b(?:active run|while a run) ([\w\-.]+?)(?:\.?$|\.\s| is active)")


class FailureKind(StrEnum):
    """Sorted by what may be done next, not by HTTP status."""

    #: The request never reached the server.
    NOT_SENT = "not_sent"
    #: The server asked to come back later (429, 424, 425; 409 and 503 in the API's own form): it did not act
    #: on the request.
    RETRY_LATER = "retry_later"
    #: It says that it did not act on the request, for a reason that may pass: a retry of the task may help.
    NOT_ACCEPTED = "not_accepted"
    #: Time-out, reset, 408, 499, 500, 502, 504, a bare 503, an unreadable answer: the server may have acted
    #: on the request.
    OUTCOME_UNKNOWN = "outcome_unknown"
    #: The run has ended, and its answer is beyond what is read.
    TOO_LARGE = "too_large"
    #: 404
    NOT_FOUND = "not_found"
    #: 401, 403
    ACCESS_DENIED = "access_denied"
    #: ``insufficient_quota`` and its like, for which waiting does not help, whatever the HTTP status.
    NO_QUOTA = "no_quota"
    #: Any other 4xx: the request itself is wrong, or comes at the wrong moment.
    REJECTED = "rejected"


_TRANSIENT = frozenset(
    {
        FailureKind.NOT_SENT,
        FailureKind.RETRY_LATER,
        FailureKind.NOT_ACCEPTED,
        FailureKind.OUTCOME_UNKNOWN,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFailure:
    """A request that did not bring a readable answer."""

    kind: FailureKind
    #: Message text.
    text: str
    http_status: int | None = None
    code: str | None = None
    param: str | None = None
    #: Seconds that the server asked to wait.
    retry_after: float | None = None
    #: What the server said is for decisions, and not to be shown: it may quote a prompt or an answer.
    is_withheld: bool = False
    #: Whether it names what was asked for by its id.
    names_it: bool = False

    @property
    def says_gone(self) -> bool:
        """Whether the server says that it does not know the run; a gateway's 404 says nothing of it."""
        if self.kind is not FailureKind.NOT_FOUND:
            return False
        if ROUTE_IS_MISSING.search(self.text) or _OF_A_GATEWAY.search(self.text):
            return False
        return self.names_it or _RUN_IS_MISSING.search(self.text) is not None

    @property
    def is_transient(self) -> bool:
        """Whether the same request may succeed later."""
        return self.kind in _TRANSIENT

    @property
    def may_be_sent_again(self) -> bool:
        """Whether even a create may be sent again after a pause: it was not accepted, for now."""
        return self.kind in {FailureKind.NOT_SENT, FailureKind.RETRY_LATER}

    @property
    def is_of_account(self) -> bool:
        """Whether the key is refused, or the account has no quota: no fault of the request."""
        return self.kind in {FailureKind.ACCESS_DENIED, FailureKind.NO_QUOTA}

    @property
    def not_accepted(self) -> bool:
        """Whether the server certainly did not act on it."""
        return self.kind not in {FailureKind.OUTCOME_UNKNOWN, FailureKind.TOO_LARGE}

    @property
    def active_run_id(self) -> str | None:
        """The run that keeps a thread busy; OpenAI names it only in the message."""
        found = _ACTIVE_RUN.search(self.text) if self.http_status in {400, 409} else None
        return found.group(1) if found and is_id(found.group(1)) else None

    @property
    def conversation_locked(self) -> bool:
        """Whether another response is at work in the same conversation."""
        return self.code == "conversation_locked"

    @property
    def brief(self) -> str:
        """What it is, without what the server said, which may quote a prompt or an answer."""
        if not self.http_status:
            return self.text.rstrip(".")
        code = f" ({self.code})" if _CODE.fullmatch(self.code or "") else ""
        return f"HTTP {self.http_status}{code}"

    def __str__(self) -> str:
        text = self.text.rstrip(".")  # it stands within a sentence
        if self.is_withheld and self.http_status:
            code = f" {self.code}" if _CODE.fullmatch(self.code or "") else ""
            text = f"{self.kind.value}{code} (text_in_xcom=0 withholds what the server said)"
        return f"HTTP {self.http_status}: {text}" if self.http_status else text


def bounded_retry_after(seconds: float | None) -> float | None:
    """Return what a server asked a task's retry to wait, within the bounds that no server leaves."""
    low, high = RETRY_AFTER_BOUNDS
    return None if seconds is None else min(max(float(seconds), low), high)


def pause_before_retry(failure: RequestFailure, tries: int) -> float:
    """Return the seconds to wait before a request is sent again that was tried ``tries`` times before."""
    return max(min(FIRST_PAUSE * 2.0 ** min(tries, 9), LONGEST_PAUSE), failure.retry_after or 0.0)
