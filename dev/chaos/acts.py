# SPDX-License-Identifier: Apache-2.0
"""What is done to a play, and what must hold of it at its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import datetime

from dev.chaos import faults
from dev.chaos.play import Play

SECONDS_OF_A_DAG_RUN = 60.0
SECONDS_TO_CANCEL = 5.0
"""After a deadline, beside one look, which comes after a tenth of the run's age."""

# -- the worker is lost -----------------------------------------------------------------------------------


def kill_early(play: Play) -> None:
    """Kill the task before it creates, or while it does."""
    play.task_process()
    play.pause(0, 1.5)
    play.kill_task()


def kill_during_create(play: Play) -> None:
    """Kill the task while it waits for the answer to its create."""
    play.until_run()
    play.pause(0, faults.SLOW_CREATE - 1.5)
    play.kill_task()


def kill_after_create(play: Play) -> None:
    """Kill the task between create and record, or record and defer."""
    play.until_run()
    play.pause(0, 1.5)
    play.kill_task()


def kill_waiting(play: Play) -> None:
    """Kill the task while it waits in its worker."""
    play.until_waiting()
    play.pause(2, 6)
    play.kill_task()


def kill_resumed(play: Play) -> None:
    """Kill the task after the wait in the triggerer."""
    play.until_waiting()
    play.until_state("running")
    play.task_process()
    play.pause(0, 1.5)
    play.kill_task()


def evict(play: Play) -> None:
    """Shut a worker down as Kubernetes does, with supervisor and task."""
    play.until_waiting()
    play.pause(2, 6)
    for pid in (play.supervisor(), play.task_process()):
        os.kill(pid, signal.SIGTERM)


def freeze(play: Play) -> None:
    """Stop the worker until Airflow has given its task to another one, and let it come back."""
    play.until_waiting()
    play.pause(1, 3)
    frozen = (play.supervisor(), play.task_process())
    try:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        play.until("a second attempt", lambda: play.instance.get("try_number", 1) > 1 and is_running(play))
        play.pause(0, 3)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)


def is_running(play: Play) -> bool:
    """Tell whether an attempt is under way."""
    return play.instance.get("state") in {"running", "deferred"}


# -- a user intervenes ------------------------------------------------------------------------------------


def mark(state: str) -> Callable[[Play], None]:
    """Mark the task while it waits."""

    def act(play: Play) -> None:
        play.until_waiting()
        play.pause(0, 5)
        play.mark(state)

    return act


def clear(play: Play) -> None:
    """Clear the task while it waits, and mark it failed when its next run has proved to last."""
    play.until_waiting()
    play.pause(0, 5)
    play.clear()
    play.until_run(2)
    play.pause(8, 10)
    if play.runs[1].ended_at is not None:
        play.complaints.append("the run after the clear was ended")
    play.mark("failed")


def delete(play: Play) -> None:
    """Fail and delete the Dag run."""
    play.until_waiting()
    play.pause(1, 5)
    play.delete()


# -- time is over -----------------------------------------------------------------------------------------


def limit(seconds: float) -> Callable[[Play], None]:
    """Expect the end of the run after so many seconds."""

    def act(play: Play) -> None:
        run = play.until_run()
        play.deadline = run.created_at + seconds
        # execution_timeout counts from a moment between the start of the attempt and the create.
        began = datetime.fromisoformat(play.instance["start_date"]).timestamp()
        play.excuse((began if "timeout" in play.variant else run.created_at) + seconds - 1)

    return act


def outlive_dag_run(play: Play) -> None:
    """Expect the end of the run when the Dag run's time is over, which may be as early as its create."""
    play.excuse(time.time() + SECONDS_OF_A_DAG_RUN - 5)
    play.until_run()


def ended_in_time(seconds: float) -> Callable[[Play], str | None]:
    """Check that the run was cancelled at the deadline, and that the task's log says so."""

    def check(play: Play) -> str | None:
        if not play.runs or play.deadline is None:
            return "no run, no deadline"
        ended_at = play.runs[0].ended_at
        if ended_at is None:
            return None  # an orphan, which is counted
        lag = ended_at - play.deadline
        if lag > SECONDS_TO_CANCEL + seconds / 10:
            return f"cancelled {lag:.1f} s after the deadline"
        option = "execution_timeout" if "timeout" in play.variant else "completion_window"
        said = f"did not end within {option}=" in play.log() or (
            option == "execution_timeout" and play.waits == "worker" and "AirflowTaskTimeout" in play.log()
        )
        if not said or "The run was cancelled." not in play.log():
            return "its log does not name the limit and the fate of the run"
        return None

    return check


# -- the run itself ---------------------------------------------------------------------------------------


def cancel_elsewhere(play: Play) -> None:
    """Cancel the run at the server."""
    play.until_waiting()
    play.pause(2, 6)
    play.cancel_run()


def die(play: Play) -> None:
    """Let the run be cancelled whenever no retry is left."""
    play.excuse(time.time())


def was_not_repeated(play: Play) -> str | None:
    """Check that nobody tried again."""
    tries = play.instance.get("try_number")
    return None if tries == 1 else f"attempt {tries} of a task that was not to be repeated"


def was_found_if_it_can_be(play: Play) -> str | None:
    """Check that a thread run, which its token finds, was gone on with."""
    if play.kind == "thread_run" and play.state != "success":
        return f"ended as {play.state} although its thread could be searched"
    return None
