# SPDX-License-Identifier: Apache-2.0
"""How long each thing may take, in seconds, and why: all time budgets that are no arguments."""

from __future__ import annotations

# -- what a user may change --------------------------------------------------------------------------------

#: Whole budget of each action, its retries included; ``delete`` is cancel. Terraform's own defaults.
DEFAULT_TIMEOUTS = {"create": 600.0, "read": 300.0, "delete": 300.0}

# -- servers -----------------------------------------------------------------------------------------------

#: A fresh run may be unknown to the replica that is asked; seen for up to 33 s.
NOT_FOUND_GRACE = 60.0
#: How long after it was accepted a run may still be missing from a list.
SEARCH_SECONDS = 60.0
#: By how much the clocks of two hosts may differ, as a bound that no host comes near: what another one has
#: written down proves an age only beyond it.
CLOCKS_DIFFER = 3600.0
#: Between two searches for a run that a list does not show yet.
SEARCH_PAUSE = 5.0
#: Before a create whose answer was lost is sent again at the user's risk; it doubles up to the second one. A
#: server that loses answers is in distress, and each one that it loses may be paid for.
RESUBMIT_PAUSE = 5.0
LONGEST_RESUBMIT_PAUSE = 300.0
#: Between two tries to end a run that a new one has to wait for.
END_PAUSE = 5.0
#: How long a server has to say that it does not know a run, until another one is paid for in its place.
GONE_SECONDS = 60.0
#: A refused key may be a rotation in progress: how long to go on without one good poll.
PERMANENT_FAILURE_BUDGET = 300.0
#: No server may make us ask more often, or leave a finished run unnoticed for longer.
SERVER_HINT_BOUNDS = (1.0, 120.0)
#: The same where a task's retry waits.
RETRY_AFTER_BOUNDS = (1.0, 3600.0)
#: Bounds of the interval that grows with the run's age.
INTERVAL_BOUNDS = (1.0, 30.0)
#: When the log of a long wait says that it goes on: first, and then again and again.
FIRST_REMINDER = 600.0
NEXT_REMINDER = 3600.0
#: Until a server is asked again that does not show yet what it has taken.
NOT_SHOWN_YET = 2.0

# -- requests ----------------------------------------------------------------------------------------------

#: What one reply may take, where the budget allows. A create may take the whole budget: gateways that ignore
#: ``background`` answer only when the run has ended.
REPLY_TIMEOUT = 60.0
#: What one reply may take however little of the budget is left: a try that no server could answer is none.
LEAST_REPLY_TIMEOUT = 1.0
#: One poll; a stuck one must not hide the end of the run for long.
POLL_TIMEOUT = 30.0
#: Between the first two tries of a request; each further pause is twice as long, up to the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
#: Between a cancel and the first poll after it; it doubles up to the second one.
FIRST_POLL_AFTER_CANCEL = 0.25
LONGEST_POLL_AFTER_CANCEL = 5.0
#: Polling a recorded run before it is adopted; in failure it counts as active, and the wait goes on polling.
ADOPT_BUDGET = 30.0
#: Between two tries to send the answers to calls.
ANSWER_PAUSE = 2.0
#: Before the end of a limit, so that an answer can still reach the server.
TIME_TO_ANSWER = 1.0
#: A locked conversation does not say which response is at work in it, so that nobody can poll it: ask again.
BUSY_PAUSE = 15.0

# -- ends --------------------------------------------------------------------------------------------------

#: Reading a run whose wait was over anyway.
LAST_READ_BUDGET = 20.0
#: Waiting for the end of a run that nobody can go on with, and of one that is cancelled at its deadline.
CANCEL_WAIT = 20.0
#: Answering the calls of a response that nobody goes on with, so that its conversation can be used again.
CLOSE_BUDGET = 5.0
#: Ending a run that a later attempt does not know of.
ZOMBIE_CANCEL_WAIT = 3.0

# -- Airflow -----------------------------------------------------------------------------------------------

#: A connection that a run was created with is not found while Airflow's database is away: how long to ask
#: again, and how long between two tries at most.
CONNECTION_BUDGET = 120.0
CONNECTION_PAUSE = 10.0
#: Airflow sends SIGTERM, and SIGKILL 5 s later: what an attempt has to end its run, and to say so.
KILL_SECONDS = 4.8
#: Of them, what it takes to say so.
KILL_SAY_SECONDS = 0.1
#: How long Airflow is asked whether the task goes on. A busy API server takes seconds, and a run that is
#: cancelled because nobody knows may be the one that another attempt goes on with.
KILL_ASK_SECONDS = 4.0
#: The same when no retry is left: there, no answer cancels too, and the cancel takes its time.
KILL_ASK_ON_LAST_TRY = 2.5
#: Asking the store whether the record is still this attempt's.
KILL_RECORD_SECONDS = 1.0
#: Each of the requests but the cancel: a poll, a search.
KILL_POLL_SECONDS = 1.0
#: Until Airflow is asked again whose answer was an error.
KILL_ASK_PAUSE = 0.2
#: How soon a sleeping task notices that it was killed.
KILL_NOTICE_SECONDS = 0.25
#: A trigger's ``on_kill`` is bounded to 30 s: how long Airflow is asked for the task's state, then the
#: cancel.
TRIGGER_ASK_SECONDS = 14.0
TRIGGER_KILL_WAIT = 10.0
#: Between two of those questions.
TRIGGER_ASK_PAUSE = 1.0
#: An event that fires sooner than this after the deferral may overtake the executor's report that the
#: worker has finished; the scheduler then takes the task for killed and fails the attempt
#: (https://github.com/apache/airflow/issues/72716). So the event of a quicker run is delayed.
EARLIEST_EVENT = 8.0
#: Reading a result in the triggerer; a worker has more.
TRIGGER_READ_BUDGET = 60.0
#: The scheduler checks every 15 s whether the time of an approval page is over; then the answer is sent.
APPROVAL_NOTICE = 20.0

# -- bulk --------------------------------------------------------------------------------------------------

#: How long a committed intent lets its create be sent. A later attempt waits as long before it calls the
#: intents of an earlier one lost.
SEND_WITHIN = 5.0
#: Between two commits; each is a write to storage and one to Airflow.
COMMIT_EVERY = 1.0
#: A commit that takes longer is worth a warning.
SLOW_COMMIT = 2.0
#: Between two questions for the task's state while creates are sent: a mark does not stop a writer.
FENCE_EVERY = 5.0
#: A worker that has had nothing to do but to wait for so long hands the wait over: that costs about 12 s.
DEFERS_AFTER = 60.0
#: Between two lines of progress, and two values of the XCom.
PROGRESS_EVERY = 30.0
#: How long the main thread stays for what is said last of the progress.
LAST_PUSH_SECONDS = 10.0
#: Of the seconds after SIGTERM, what thousands of cancels may take: each run is in the journal anyway.
BULK_KILL_SECONDS = 4.5
#: Of these, how long Airflow is asked whether the task goes on.
BULK_KILL_ASK_SECONDS = 1.5
#: The cancels of a trigger: after the question in its ``on_kill``, and at a deadline.
BULK_TRIGGER_KILL_WAIT = 14.0
BULK_TRIGGER_CANCEL_WAIT = 120.0
#: A run that was seen active within so many seconds is cancelled without another poll: there are
#: thousands, and few seconds.
SEEN_WITHIN = 30.0
#: Of the poll before a cancel: one that hangs leaves time for the cancel.
POLL_BEFORE_CANCEL = 3.0
#: Until storage, Airflow or a cancel is tried again.
PAUSE_AFTER_FAILURE = 2.0
#: An input, or the runs to wait for, that storage does not give: how long between two tries.
STORAGE_PAUSE = 10.0

# -- batches -----------------------------------------------------------------------------------------------

#: The answer to the create of a batch. One that nobody waits for any more may be under way as long.
BATCH_CREATE_SECONDS = 600.0
#: How long a server has to say that it does not know a batch, until that is believed: what is taken for gone
#: may go on and bill.
BATCH_MISSING_SECONDS = 300.0
#: Bounds of the interval at which a batch is polled, a tenth of its age.
BATCH_POLL_BOUNDS = (5.0, 60.0)
#: Until a batch is created again for which the account's queue was too full, or that was refused for now.
FULL_QUEUE_PAUSE = 300.0
REFUSED_PAUSE = 30.0
#: A cancel takes ten minutes at most, as the API says; then a batch that still goes on is left, and named.
BATCH_CANCEL_WAIT = 900.0
#: A file of requests or of answers up or down, its retries included.
BATCH_FILE_BUDGET = 1800.0
#: Before each further try to read the files of a batch that has executed more than they tell; what is not
#: there after ten minutes is taken for gone.
BATCH_FILE_PAUSES = (5.0, 10.0, 15.0, 30.0, *9 * (60.0,))
#: All pages of a list of batches, or of files.
BATCH_LIST_BUDGET = 120.0

# -- the command line --------------------------------------------------------------------------------------

#: One question to a server, its retries included.
CLI_REQUEST_BUDGET = 10.0
#: To see the end of a run that was cancelled.
CLI_CANCEL_WAIT = 20.0
