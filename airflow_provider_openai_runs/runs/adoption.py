# SPDX-License-Identifier: Apache-2.0
"""The decisions about a run that is known: go on with it, finish from it, end it, create another one."""

from __future__ import annotations

from dataclasses import replace

from airflow_provider_openai_runs.runs.acquisition import (
    Create,
    Decision,
    EndRun,
    Own,
    OwnershipPolicy,
    PollRun,
)
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.record import Record


def is_own(record: Record | None, policy: OwnershipPolicy) -> bool:
    """
    Whether the record is of this generation, so that its run is this task's.

    Of a damaged record the token tells; one without any belongs to the generation that meets it first.
    """
    if record is None:
        return False
    if record.generation is not None:
        return record.generation == policy.generation
    return record.token.startswith(policy.token_prefix) or not record.token


def adopt(record: Record, ref: RunRef, policy: OwnershipPolicy, now: float) -> Decision:
    """Go on with a run that may be alive; nothing is paid again."""
    known = record.back_at(ref)
    deadline = known.deadline
    over_but_left_running = deadline is not None and deadline <= now and not policy.cancel_on_timeout
    if policy.window is not None and (deadline is None or over_but_left_running):
        # Found by its token, its deadline is not known; left running by us, it has a window of its own.
        deadline = now + policy.window
    run = replace(known, created_at=known.created_at or now, deadline=deadline)
    changed = record.changed_arguments(policy.fingerprint)
    record = replace(record.with_run(run), generation=policy.generation, ended=False, ended_by_us=False)
    return Decision(step=Own(run=run, changed=changed), record=record, write=True)


def poll(record: Record, ref: RunRef, now: float) -> Decision:
    """Ask what became of a run of this task."""
    return Decision(step=PollRun(ref=ref, visible_by=record.visible_by(now)), record=record)


def finish_from(record: Record, ref: RunRef) -> Decision:
    """Return a run that has done the work."""
    run = replace(record.back_at(ref), deadline=None)
    return Decision(step=Own(run=run, finished=True), record=record)


def end(record: Record, ref: RunRef, because: str, now: float) -> Decision:
    """End a run of this task before anything else."""
    return Decision(step=EndRun(ref=ref, because=because, visible_by=record.visible_by(now)), record=record)


def create(
    record: Record | None,
    policy: OwnershipPolicy,
    because: str | None = None,
    *,
    closes: RunRef | None = None,
) -> Decision:
    """Create another run; the creates that were lost before it still count."""
    lost = record.lost if record is not None and is_own(record, policy) else ()
    return Decision(step=Create(because=because, lost=lost, closes=closes), record=record)
