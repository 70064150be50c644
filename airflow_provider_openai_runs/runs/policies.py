# SPDX-License-Identifier: Apache-2.0
"""The choices by which a user says what to do when something is not clear-cut."""

from __future__ import annotations

from typing import Any, Literal, get_args

from airflow_provider_openai_runs.runs import checks

#: A run that reached a ceiling: no success, or success with a partial answer.
OnIncomplete = Literal["fail", "accept"]
#: Nobody can say whether a create was accepted: create nothing, or create at the risk of paying twice.
OnLostCreate = Literal["fail", "resubmit"]
#: Another run is active on the thread, or another response is at work in the conversation.
OnActiveRun = Literal["fail", "wait", "cancel"]
#: The model waits for the answer to a call, and this task has none: a failure, or a result to go on from.
OnToolCalls = Literal["fail", "return"]
#: Nobody can or did approve a call: tell the model so, or fail the task.
OnApproval = Literal["reject", "fail"]
#: After a clear, an earlier run that cannot be ended: give it up and create the next one, or fail.
OnUnendable = Literal["give_up", "fail"]

_OF_ARGUMENT = {
    "on_incomplete": OnIncomplete,
    "on_lost_create": OnLostCreate,
    "on_active_run": OnActiveRun,
    "on_unendable": OnUnendable,
    "on_tool_calls": OnToolCalls,
    "on_approval_timeout": OnApproval,
    "on_second_approval": OnApproval,
}


def check_policies(task: Any) -> None:
    """
    Check each choice of a task.

    :param task: has them as attributes, under the arguments' names.
    :raises RunRequestError: for a value that is no choice.
    """
    for name, choices in _OF_ARGUMENT.items():
        checks.choice(name, getattr(task, name), get_args(choices))
