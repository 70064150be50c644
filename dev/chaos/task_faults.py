# SPDX-License-Identifier: Apache-2.0
"""Faults of one trial: what is done to its task, its worker or its run, and what must hold at its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime

from dev.chaos import cluster_faults
from dev.chaos.trial import Trial

SECONDS_OF_A_DAG_RUN = 60.0
SECONDS_TO_CANCEL = 5.0
"""After a deadline, beside one poll, which comes after a tenth of the run's age."""

# -- the worker is lost -----------------------------------------------------------------------------------


def kill_early(trial: Trial) -> None:
    """Kill the task before it creates, or while it does."""
    trial.task_process()
    trial.pause(0, 1.5)
    trial.kill_task()


def kill_during_create(trial: Trial) -> None:
    """Kill the task while it waits for the answer to its create."""
    trial.until_run()
    trial.pause(0, cluster_faults.SLOW_CREATE - 1.5)
    trial.kill_task()


def kill_after_create(trial: Trial) -> None:
    """Kill the task between create and record, or record and defer."""
    trial.until_run()
    trial.pause(0, 1.5)
    trial.kill_task()


def kill_waiting(trial: Trial) -> None:
    """Kill the task while it waits in its worker."""
    trial.until_waiting()
    trial.pause(2, 6)
    trial.kill_task()


def kill_resumed(trial: Trial) -> None:
    """Kill the task after the wait in the triggerer."""
    trial.until_waiting()
    trial.until_state("running")
    trial.task_process()
    trial.pause(0, 1.5)
    trial.kill_task()


def evict(trial: Trial) -> None:
    """Shut a worker down as Kubernetes does, with supervisor and task."""
    trial.until_waiting()
    trial.pause(2, 6)
    for pid in (trial.supervisor(), trial.task_process()):
        os.kill(pid, signal.SIGTERM)


def freeze(trial: Trial) -> None:
    """Stop the worker until Airflow has given its task to another one, and let it come back."""
    trial.until_waiting()
    trial.pause(1, 3)
    frozen = (trial.supervisor(), trial.task_process())
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        trial.until("a second attempt", lambda: trial.instance.get("try_number", 1) > 1 and is_running(trial))
        trial.pause(0, 3)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def is_running(trial: Trial) -> bool:
    """Tell whether an attempt is under way."""
    return trial.instance.get("state") in {"running", "deferred"}


# -- a user intervenes ------------------------------------------------------------------------------------


def mark(state: str) -> Callable[[Trial], None]:
    """Mark the task while it waits."""

    def fault(trial: Trial) -> None:
        trial.until_waiting()
        trial.pause(0, 5)
        trial.mark(state)

    return fault


def clear(trial: Trial) -> None:
    """Clear the task while it waits, and mark it failed when its next run has proved to last."""
    trial.until_waiting()
    trial.pause(0, 5)
    trial.clear()
    trial.until_run(2)
    trial.pause(8, 10)
    if trial.runs[1].ended_at is not None:
        trial.complaints.append("the run after the clear was ended")
    trial.mark("failed")


def delete(trial: Trial) -> None:
    """Fail and delete the Dag run."""
    trial.until_waiting()
    trial.pause(1, 5)
    trial.delete()


# -- time is over -----------------------------------------------------------------------------------------


def limit(seconds: float) -> Callable[[Trial], None]:
    """Expect the end of the run after so many seconds."""

    def fault(trial: Trial) -> None:
        run = trial.until_run()
        trial.deadline = run.created_at + seconds
        # execution_timeout counts from a moment between the start of the attempt and the create.
        began = datetime.fromisoformat(trial.instance["start_date"]).timestamp()
        trial.excuse((began if "timeout" in trial.variant else run.created_at) + seconds - 1)

    return fault


def outlive_dag_run(trial: Trial) -> None:
    """Expect the end of the run when the Dag run's time is over, which may be as early as its create."""
    trial.excuse(time.time() + SECONDS_OF_A_DAG_RUN - 5)
    trial.until_run()


def ended_in_time(seconds: float) -> Callable[[Trial], str | None]:
    """Check that the run was cancelled at the deadline, and that the task's log says so."""

    def check(trial: Trial) -> str | None:
        if not trial.runs or trial.deadline is None:
            return "no run, no deadline"
        ended_at = trial.runs[0].ended_at
        if ended_at is None:
            return None  # an orphan, which is counted
        lag = ended_at - trial.deadline
        if lag > SECONDS_TO_CANCEL + seconds / 10:
            return f"cancelled {lag:.1f} s after the deadline"
        option = "execution_timeout" if "timeout" in trial.variant else "completion_window"
        said = f"did not end within {option}=" in trial.log() or (
            option == "execution_timeout" and trial.waits == "worker" and "AirflowTaskTimeout" in trial.log()
        )
        if not said or "The run was cancelled." not in trial.log():
            return "its log does not name the limit and the fate of the run"
        return None

    return check


# -- the run itself ---------------------------------------------------------------------------------------


def cancel_elsewhere(trial: Trial) -> None:
    """Cancel the run at the server."""
    trial.until_waiting()
    trial.pause(2, 6)
    trial.cancel_run()


def may_be_cancelled(trial: Trial) -> None:
    """Let the run be cancelled from the start: nobody comes after this attempt."""
    trial.excuse(time.time())


def die(trial: Trial) -> None:
    """Let the run be cancelled whenever no retry is left."""
    trial.excuse(time.time())


def was_not_repeated(trial: Trial) -> str | None:
    """Check that nobody tried again."""
    tries = trial.instance.get("try_number")
    return None if tries == 1 else f"attempt {tries} of a task that was not to be repeated"


def was_found_if_it_can_be(trial: Trial) -> str | None:
    """Check that a thread run, which its token finds, was gone on with."""
    if trial.kind == "thread_run" and trial.state != "success":
        return f"ended as {trial.state} although its thread could be searched"
    return None
