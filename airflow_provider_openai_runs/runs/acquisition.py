# SPDX-License-Identifier: Apache-2.0
"""What is known while a task instance acquires its run, and the steps that it can take: values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_openai_runs.runs.errors import OpenAIRunError
from airflow_provider_openai_runs.runs.failure import RequestFailure
from airflow_provider_openai_runs.runs.fate import CancelResult
from airflow_provider_openai_runs.runs.model import PollResult, RunRef
from airflow_provider_openai_runs.runs.policies import OnActiveRun, OnIncomplete, OnUnendable
from airflow_provider_openai_runs.runs.record import Record
from airflow_provider_openai_runs.runs.tracked import TrackedRun

# -- what is known -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipPolicy:
    """
    What does not change while an attempt acquires its run.

    :param generation: of this attempt.
    :param window: seconds to wait for the run; None is fire and forget, where a run is tracked only until its
        create has returned.
    :param create_budget: seconds for the creates of one acquisition, its retries included.
    :param cancel_budget: seconds for the end of an earlier run.
    :param token_prefix: the part of the token that every attempt of this generation has in common.
    :param fingerprint: of what this attempt asks for.
    :param resubmits: how many creates that were lost may be sent again in this generation.
    """

    generation: int
    window: float | None
    create_budget: float
    cancel_budget: float
    token_prefix: str
    fingerprint: Mapping[str, str] = field(default_factory=dict)
    resubmits: int = 0
    on_incomplete: OnIncomplete = "fail"
    on_active_run: OnActiveRun = "fail"
    on_unendable: OnUnendable = "give_up"
    cancel_on_timeout: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """
    What a search by token brought.

    :param ref: the run, if it was found.
    :param conclusive: whether not having found it proves that it does not exist.
    """

    ref: RunRef | None
    conclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Polled:
    """What a poll of ``ref`` brought."""

    ref: RunRef
    result: PollResult | RequestFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search by the record's token brought."""

    result: SearchResult | RequestFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    What became of ``ref``, which was to end.

    :param seconds: how long it was tried.
    :param others: it is somebody else's run.
    """

    ref: RunRef
    result: CancelResult
    seconds: float = 0.0
    others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCreated:
    """
    A create of this attempt failed.

    :param intent: as it was saved before it was sent.
    :param before: the record before the intent.
    :param error: what a user reads if that is the end.
    :param active_run: the run that keeps the thread busy, where the server names it.
    """

    intent: Record
    before: Record | None
    failure: RequestFailure
    error: OpenAIRunError
    active_run: RunRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identified:
    """Whose the run is that kept the thread busy; ``ours`` means this very task's."""

    ref: RunRef
    ours: bool
    refused: NotCreated


Observation = Polled | Searched | Ended | NotCreated | Identified


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """
    What is known at one point.

    :param record: what the task state store holds, or None.
    :param is_guess: there is no store, and the record is what a retry knows without one.
    :param observed: what the last step brought; None at the start.
    :param gives_up_at: Unix seconds; nothing is created after it.
    :param refusals: how many creates were not accepted.
    """

    record: Record | None
    is_guess: bool = False
    observed: Observation | None = None
    gives_up_at: float = math.inf
    refusals: int = 0


# -- what is to be done ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """
    Save an intent, then create a run.

    :param because: what became of the one before.
    :param after: seconds to pause first.
    :param thread_id: a thread that an earlier try has created for it.
    :param token: of an earlier try that was not accepted; None takes a new one.
    :param lost: the tokens of the creates of this generation that were not answered.
    :param closes: a response that nobody goes on with: its calls are answered with an error before, since its
        conversation would refuse the next one.
    """

    because: str | None = None
    after: float = 0.0
    thread_id: str | None = None
    token: str | None = None
    lost: tuple[str, ...] = ()
    closes: RunRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRun:
    """
    Poll the run, recorded or found by its token.

    :param visible_by: until this Unix time a 404 means that it is not visible yet, and it is polled again.
    """

    ref: RunRef
    visible_by: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRun:
    """Search for the run of ``intent`` by its token, again and again until ``until`` (Unix seconds)."""

    intent: Record
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EndRun:
    """
    Cancel that run, unless it has ended, and wait for its end.

    :param visible_by: until this Unix time a 404 means that it is not visible yet.
    :param others: it is somebody else's run, which keeps the thread busy.
    """

    ref: RunRef
    because: str
    visible_by: float
    others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifyRun:
    """Read the run that keeps the thread busy: this very task may have created it."""

    ref: RunRef
    refused: NotCreated


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """
    That run belongs to this task instance; nothing is paid again.

    :param finished: it has done its work already, and only has to be read.
    :param changed: arguments that differ from those it was created with.
    """

    run: TrackedRun
    finished: bool = False
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForThread:
    """
    Nothing can be created until somebody else's run has ended; it is never cancelled.

    :param ref: that run; None where the server does not say.
    :param error: what to raise when the time is over.
    """

    ref: RunRef | None
    error: OpenAIRunError


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Nothing may be created."""

    error: OpenAIRunError


Step = Create | PollRun | SearchRun | EndRun | IdentifyRun | Own | WaitForThread | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """
    What to write, then what to do.

    :param record: what is known from now on, and in the store when the step is done; None forgets.
    :param write: whether the store is written before the step.
    :param warning: a line for the log.
    """

    step: Step
    record: Record | None
    write: bool = False
    warning: str | None = None
