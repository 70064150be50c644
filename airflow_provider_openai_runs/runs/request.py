# SPDX-License-Identifier: Apache-2.0
"""What is asked for, as a value: a run to create, or one whose calls are to be answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.budgets import DEFAULT_TIMEOUTS
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.status import noun_of
from airflow_provider_openai_runs.runs.text import encodable


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """
    A run to create.

    :param body: the API's own arguments, as JSON; ``tools`` in the nested form.
    :param thread_id: the thread of a thread run.
    :param thread: the thread to create first, in place of ``thread_id``.
    :param warnings: what a user should know about the arguments, for the log.
    :param answers: the run whose calls are to be answered, in place of creating one.
    :param closing: input items that go ahead of its own: they answer calls that block its conversation.
    :param continues: all responses of a task tell the API that they belong together, for its queue.
    :param forgot_tools: nobody can say any more which tools were offered. A call that a server may have made
        itself then counts as one that waits for an answer.
    """

    kind: str
    body: Mapping[str, Any]
    thread_id: str | None = None
    thread: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    answers: RunRef | None = None
    closing: tuple[Mapping[str, Any], ...] = ()
    continues: bool = False
    forgot_tools: bool = False

    @property
    def include(self) -> tuple[str, ...]:
        """Return what the answer is to include, too; every read has to ask for it again."""
        given = self.body.get("include")
        return tuple(item for item in given if isinstance(item, str)) if isinstance(given, list) else ()

    @property
    def noun(self) -> str:
        """Return the kind as people read it."""
        return noun_of(self.kind)

    def that_created(self, ref: RunRef) -> RunRequest | None:
        """Return this request, unless ``ref`` is the run that it answers: another one created that."""
        return None if ref == self.answers else self

    def of_task(self, *, names: Mapping[str, str], continuation_id: str) -> RunRequest:
        """
        Return the request as a task instance sends it.

        :param names: metadata that a person reads; left out where the user's own needs the pairs.
        :param continuation_id: the same for all responses of the task.
        """
        body = dict(self.body)
        if body and names:
            own = body.get("metadata", {})
            room = checks.MAX_METADATA_PAIRS - len(own)
            added = [(name, value) for name, value in names.items() if name not in own][: max(0, room)]
            body["metadata"] = {**dict(added), **own}
        if self.continues:
            body["background_options"] = {
                "continuation_id": continuation_id,
                **body.get("background_options", {}),
            }
        return replace(self, body=body)

    def fingerprint(self) -> dict[str, str]:
        """Return a short hash of each argument."""
        return fingerprint({**self.body, "thread_id": self.thread_id, "thread": self.thread})


def task_metadata(ti: Any) -> dict[str, str]:
    """Return what names a task instance to people, the most telling first."""
    names = {"airflow_dag_id": ti.dag_id, "airflow_task_id": ti.task_id, "airflow_run_id": ti.run_id}
    return {name: encodable(str(value))[: checks.MAX_METADATA_VALUE] for name, value in names.items()}


def checked_timeouts(value: object) -> dict[str, float]:
    """Return the budgets of create, read and delete in seconds; what is not given has its default."""
    given = checks.mapping("timeouts", value or {})
    if unknown := sorted(set(given) - set(DEFAULT_TIMEOUTS)):
        meant = checks.did_you_mean(unknown[0], DEFAULT_TIMEOUTS)
        rule = f"knows create, read and delete, not {unknown[0]!r}{meant}"
        raise checks.invalid("timeouts", given, rule)
    return DEFAULT_TIMEOUTS | {
        name: checks.seconds(f"timeouts[{name!r}]", seconds) for name, seconds in given.items()
    }


def fingerprint(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return a short hash of each argument; never the argument itself, which may be a prompt."""
    return {
        name: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]
        for name, value in arguments.items()
    }


def changed_arguments(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Name the arguments in which two fingerprints differ; none where there was none before."""
    names = {*before, *now} if before else set()
    return tuple(sorted(name for name in names if before.get(name) != now.get(name)))
