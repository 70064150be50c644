# SPDX-License-Identifier: Apache-2.0
from dev.chaos.verdict import History, Run, duplicates, failed_for_good, orphans, wrongly_cancelled


def test_two_runs_alive_at_once_are_duplicates() -> None:
    runs = [Run("run_1", "in_progress", 10.0, None), Run("run_2", "in_progress", 20.0, None)]
    assert len(duplicates(History(), runs)) == 1


def test_a_run_after_a_completed_one_is_a_duplicate_but_not_after_a_failed_one() -> None:
    second = Run("run_2", "completed", 20.0, 30.0)
    assert duplicates(History(), [Run("run_1", "completed", 10.0, 15.0), second])
    assert not duplicates(History(), [Run("run_1", "failed", 10.0, 15.0), second])


def test_a_clear_makes_room_for_a_new_run() -> None:
    runs = [Run("run_1", "completed", 10.0, 15.0), Run("run_2", "completed", 20.0, 30.0)]
    assert not duplicates(History(clears=[17.0]), runs)


def test_a_worker_that_had_not_heard_of_a_clear_has_created_for_the_generation_before() -> None:
    second = Run("run_2", "completed", 50.0, 60.0, token="new/b")
    assert not duplicates(
        History(clears=[9.0]), [Run("run_1", "completed", 10.0, 15.0, token="old/a"), second]
    )
    assert duplicates(History(clears=[9.0]), [Run("run_1", "completed", 10.0, 15.0, token="new/a"), second])
    assert duplicates(History(clears=[9.0]), [Run("run_1", "completed", 30.0, 35.0, token="old/a"), second])


def test_a_run_that_goes_on_after_its_task_is_an_orphan_unless_somebody_said_so() -> None:
    runs = [Run("run_1", "in_progress", 10.0, None)]
    assert not orphans(History(ended_at=None), runs, now=100.0)
    assert not orphans(History(ended_at=80.0), runs, now=100.0)
    assert orphans(History(ended_at=60.0), runs, now=100.0)
    assert orphans(History(clears=[60.0]), runs, now=100.0)
    assert not orphans(History(ended_at=60.0, announced=True), runs, now=100.0)


def test_a_cancel_needs_an_excuse_from_before_it() -> None:
    runs = [Run("run_1", "cancelled", 10.0, 15.0)]
    assert wrongly_cancelled(History(), runs)
    assert wrongly_cancelled(History(excused_from=16.0), runs)
    assert not wrongly_cancelled(History(excused_from=14.0), runs)


def test_after_a_clear_the_run_before_it_may_be_cancelled_and_the_one_after_it_may_not() -> None:
    runs = [Run("run_1", "cancelled", 10.0, 15.0), Run("run_2", "cancelled", 16.0, 18.0)]
    assert [line.split()[0] for line in wrongly_cancelled(History(clears=[12.0]), runs)] == ["run_2"]


def test_a_response_goes_on_from_the_one_whose_calls_it_answers_and_only_once() -> None:
    chain = [
        Run("resp_1", "completed", 10.0, 12.0),
        Run("resp_2", "completed", 13.0, 15.0, "resp_1"),
        Run("resp_3", "completed", 16.0, 18.0, "resp_2"),
    ]
    assert not duplicates(History(), chain)
    assert len(duplicates(History(), [*chain, Run("resp_4", "completed", 17.0, 19.0, "resp_2")])) == 1
    assert duplicates(History(), [chain[0], Run("resp_2", "completed", 11.0, 15.0, "resp_1")])


def test_a_task_failed_for_good_if_it_was_to_succeed_and_a_retry_was_left() -> None:
    assert failed_for_good("failed", expected={"success"}, attempts=2, retries=2)
    assert not failed_for_good("failed", expected={"success"}, attempts=3, retries=2)
    assert not failed_for_good("failed", expected={"success", "failed"}, attempts=1, retries=2)
    assert not failed_for_good("success", expected={"success"}, attempts=1, retries=2)
