# SPDX-License-Identifier: Apache-2.0
"""Answer the calls that a run of another task waits for, and wait for the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.operators.base import BaseCreateOperator
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.as_json import as_json
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.model import RunRef
from airflow_provider_openai_runs.runs.request import RunRequest
from airflow_provider_openai_runs.runs.response_request import continuation_request
from airflow_provider_openai_runs.runs.status import RunKind

_AGAIN = ("model", "instructions", "tools", "extra_body")


class SubmitToolOutputsOperator(BaseCreateOperator):
    """
    Answer all calls that a run waits for, in one request, and wait for it as a create does.

    The run is one that another task has left with ``on_tool_calls="return"``. A thread run goes on by itself;
    a response goes on as a new one, to which the API carries neither instructions nor tools over. The result
    counts what was done and billed from the answer on. The remaining arguments are those of
    ``BaseCreateOperator``; ``conn_id`` is the one in ``ref`` unless given.

    Clearing this task ends the run that it waits for. A thread run cannot be answered again: clear the task
    that created it.

    :param ref: the run, as in the XCom ``ref`` of the task that created it.
    :param outputs: call id to the answer: text; true or false to the approval request of an MCP tool; the
        whole output item of a response, which the call of a shell, a computer or a patch needs; anything else
        is sent as JSON.
    :param model: of a response, in place of the one that asked.
    :param instructions: of a response, to be sent again.
    :param tools: of a response, to be offered again.
    :param extra_body: further parameters of the next response, by name.
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "completion_window",
        "output_path",
        "approval_subject",
        "ref",
        "outputs",
        *_AGAIN,
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "ref": "json",
        "outputs": "json",
        "tools": "json",
        "extra_body": "json",
    }
    ui_color = "#d7f0e4"

    @airflow_errors()
    def __init__(
        self,
        *,
        ref: Mapping[str, Any],
        outputs: Mapping[str, Any],
        model: str | None = None,
        instructions: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id or "", **kwargs)
        self.ref = ref
        self.outputs = outputs
        self.model = model
        self.instructions = instructions
        self.tools = tools
        self.extra_body = extra_body
        self.check_arguments()

    def given_outputs(self) -> Mapping[str, Any]:
        """Return the answers."""
        return checks.mapping("outputs", as_json("outputs", self.outputs))

    def waiting_run(self) -> RunRef:
        """Return the run that waits for the answers."""
        return RunRef.resolve(ref=self.ref, conn_id=self.conn_id or None)

    def connection_of_run(self) -> str:
        """Return the connection that the run was created with."""
        return self.waiting_run().conn_id

    def request_of_resume(self) -> RunRequest:
        """Return as much of the request as finishing from its run takes."""
        ref = self.waiting_run()
        return RunRequest(kind=ref.kind, body={}, answers=ref)

    def build_request(self) -> RunRequest:
        """Check the rendered arguments."""
        ref, again = self.waiting_run(), {name: getattr(self, name) for name in _AGAIN}
        if not self.given_outputs():
            raise checks.invalid("outputs", self.outputs, "must answer every call that the run waits for")
        if ref.kind == RunKind.THREAD_RUN:
            if given := [name for name, value in again.items() if value is not None]:
                raise RunRequestError(
                    f"{given[0]} cannot be given: a thread run goes on with what it was created with. "
                    "Nothing was sent."
                )
            if self.max_total_tokens is not None or self.max_cost is not None:
                raise RunRequestError(
                    "max_total_tokens and max_cost cannot be given here: a thread run goes on with what it "
                    "was created with. Give them to the task that creates it. Nothing was sent."
                )
            return RunRequest(kind=ref.kind, body={}, thread_id=ref.thread_id, answers=ref)
        again["tools"] = self.tools_with_functions()
        if self.output_type is not None:
            again["output_format"] = self.output_format(ref.kind)
        request = continuation_request(**again)
        return RunRequest(kind=ref.kind, body=request.body, warnings=request.warnings, answers=ref)
