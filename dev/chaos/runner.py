# SPDX-License-Identifier: Apache-2.0
"""Runs the trials: all at once that share nothing, and row by row where a fault is shared."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field

from dev.chaos import batch_items, batch_rows, bulk_items, bulk_rows
from dev.chaos.cluster import Cluster
from dev.chaos.rows import Row
from dev.chaos.trial import ENDED, Trial
from dev.chaos.verdict import SECONDS_TO_END, duplicates, failed_for_good, orphans, wrongly_cancelled

SECONDS_OF_A_TRIAL = 900.0
SECONDS_TO_GET_UNDER_WAY = 180.0
SECONDS_FOR_EACH = 4.0
"""Of many trials, since there are few workers."""
COUNTED = ("duplicates", "orphans", "wrongly cancelled", "failed for good with a retry left")
"""What has to be zero."""
ANNOUNCED = ("may be running and billing", "left running and billing")
AIRFLOW_72716 = "https://github.com/apache/airflow/issues/72716"


@dataclass(eq=False)
class TrialGroup:
    """A row with its trials."""

    row: Row
    trials: list[Trial] = field(default_factory=list)

    @property
    def ended(self) -> list[Trial]:
        """The trials that have come to their end."""
        return [trial for trial in self.trials if trial.state is not None]


def prepare(cluster: Cluster, rows: Mapping[int, Row], *, number: int, seed: int) -> list[TrialGroup]:
    """
    Prepare ``number`` trials for each kind of run and way to wait that a row is about.

    :param rows: by their place in the whole table.
    """
    groups = []
    for place, row in rows.items():
        trials: list[Trial] = []
        for again, kind, waits in (
            (again, kind, waits)
            for again in range(row.number(number))
            for waits in row.waits
            for kind in row.kinds
        ):
            name = f"trial-{place}-{kind}-{waits}-{again}"
            dice = random.Random(f"{seed}/{row.name}/{name}")  # noqa: S311 - repeatable, not secret
            options = row.trial_options(len(trials) + place, waits)
            trials.append(Trial(cluster, name, kind, waits, dice, **options))
        groups.append(TrialGroup(row, trials))
    return groups


def run(cluster: Cluster, groups: list[TrialGroup], *, at_a_time: int, until: float) -> Iterator[TrialGroup]:
    """Yield each row when its last trial has ended; no trial is started after ``until`` (monotonic)."""
    pool = ThreadPoolExecutor(at_a_time)
    try:
        yield from _independent([group for group in groups if not group.row.shares_fault], pool, until)
        for group in groups:
            if group.row.shares_fault:
                together = group.row.at_once or at_a_time
                for first in range(0, len(group.trials), together):
                    if time.monotonic() < until:
                        _sharing(cluster, group, group.trials[first : first + together])
                if group.ended:
                    yield group
    except BaseException:
        cluster.end()  # the trials under way notice it
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _independent(groups: list[TrialGroup], pool: ThreadPoolExecutor, until: float) -> Iterator[TrialGroup]:
    left = {group: len(group.trials) for group in groups}
    futures: dict[Future[None], TrialGroup] = {
        pool.submit(_run_one, group.row, trial, until): group for group in groups for trial in group.trials
    }
    for future in as_completed(futures):
        future.result()
        group = futures[future]
        left[group] -= 1
        if not left[group] and group.ended:
            yield group


def _sharing(cluster: Cluster, group: TrialGroup, trials: list[Trial]) -> None:
    """Run some trials of a row whose fault they share."""
    pool = ThreadPoolExecutor(len(trials))
    cluster.fault_has_begun.clear()
    if group.row.early_cluster_fault:
        group.row.early_cluster_fault(cluster, trials)
    futures = [pool.submit(_run_one, group.row, trial) for trial in trials]
    if group.row.cluster_fault:
        try:
            _wait_until_under_way(cluster, trials)
            cluster.fault_has_begun.set()
            group.row.cluster_fault(cluster, trials)
        except Exception as error:  # noqa: BLE001 - the trials go on, and the report says it
            trials[0].complaints.append(f"the shared fault: {type(error).__name__}: {error}")
    for future in futures:
        future.result()
    pool.shutdown()


def _wait_until_under_way(cluster: Cluster, trials: list[Trial]) -> None:
    """Wait until all trials wait that can at once; the fault meets the others where they are."""
    deferred = sum(trial.waits == "deferred" for trial in trials)
    wanted = deferred + min(len(trials) - deferred, cluster.parallelism - 2)
    deadline = time.monotonic() + SECONDS_TO_GET_UNDER_WAY + SECONDS_FOR_EACH * len(trials)
    while (waiting := sum(trial.is_waiting for trial in trials)) < wanted:
        if time.monotonic() > deadline:
            trials[0].complaints.append(f"the fault met {waiting} trials that waited, not {wanted}")
            return
        time.sleep(0.1)


def _run_one(row: Row, trial: Trial, until: float | None = None) -> None:
    if until is not None and time.monotonic() > until:
        return
    try:
        row.prepare(trial)
        trial.start()
        row.fault(trial)
    except Exception as error:  # noqa: BLE001 - the other trials go on, and the report says it
        trial.complaints.append(f"{type(error).__name__}: {error}")
        with suppress(Exception):
            if trial.run_id and trial.instance.get("state") not in ENDED:
                trial.fail_dag_run()  # nobody else would end it
    trial.until_ended(SECONDS_OF_A_TRIAL + SECONDS_FOR_EACH * row.at_once)
    if trial.state is None:  # everything was stopped
        return
    _read_announcement(trial)
    trial.write(row.name)


def _read_announcement(trial: Trial) -> None:
    """Read whether the log of a task with an active run says so; the line of a trigger comes later."""
    is_read = trial.history.announced or trial.state == "deleted"
    if not is_read and any(run.ended_at is None for run in trial.runs):
        trial.history.announced = any(words in trial.log() for words in ANNOUNCED)


def judge(cluster: Cluster, groups: list[TrialGroup], *, wait_for_ends: bool = True) -> dict[str, list[str]]:
    """Say what is wrong, trial by trial; every run is given the time to end before, if asked."""
    trials = [trial for group in groups for trial in group.ended]
    if wait_for_ends:
        last = max((trial.history.ended_at or 0.0 for trial in trials), default=0.0)
        time.sleep(max(0.0, last + SECONDS_TO_END + 1 - time.time()))
        cluster.settle()
        for trial in trials:
            _read_announcement(trial)
    now = time.time()
    failed_by_airflow = cluster.failed_by_airflow()
    found: dict[str, list[str]] = {name: [] for name in (*COUNTED, "unexpected")}
    for group in groups:
        for trial in group.ended:
            who = f"{group.row.name}: {trial.name} ({trial.run_id})"
            note = (
                f" [Airflow failed an attempt of it: {AIRFLOW_72716}]"
                if trial.run_id in failed_by_airflow
                else ""
            )
            verdicts = {
                **_VERDICTS.get(trial.kind, _verdicts_of)(trial, now),
                "failed for good with a retry left": failed_for_good(
                    trial.state,
                    expected={"failed"} if trial.history.was_ended_by_user else group.row.result_of(trial),
                    attempts=trial.attempts,
                    retries=int(trial.instance.get("max_tries") or 0),
                ),
                "unexpected": _unexpected(group.row, trial),
            }
            for name, lines in verdicts.items():
                found[name] += [f"{who}: {line}{note}" for line in lines]
    return found


def _verdicts_of(trial: Trial, now: float) -> dict[str, list[str]]:
    return {
        "duplicates": duplicates(trial.history, trial.runs),
        "orphans": orphans(trial.history, trial.runs, now),
        "wrongly cancelled": wrongly_cancelled(trial.history, trial.runs),
    }


_VERDICTS = {bulk_rows.KIND: bulk_items.verdicts_of, batch_rows.KIND: batch_items.verdicts_of}


def _unexpected(row: Row, trial: Trial) -> list[str]:
    found = list(trial.complaints)
    if trial.state not in (expected := row.result_of(trial)):
        found.append(f"ended as {trial.state}, not as {' or '.join(sorted(expected))}")
    wanted = row.runs_of(trial)
    if wanted is not None and len(trial.runs) != wanted:
        found.append(f"{len(trial.runs)} runs, not {wanted}: {[(r.id, r.status) for r in trial.runs]}")
    if wrong := row.check(trial):
        found.append(wrong)
    return found


def results(trials: list[Trial]) -> str:
    """Count the states in which trials ended, and attempts beyond the first: ``3 success, 1 failed; +2``."""
    states = ", ".join(f"{n} {state}" for state, n in Counter(trial.state for trial in trials).most_common())
    retries = sum(max(0, trial.attempts - 1) for trial in trials)
    return f"{states}; +{retries} attempts" if retries else states
