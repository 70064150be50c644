# SPDX-License-Identifier: Apache-2.0
"""A run as this package shows it: frozen, typed, JSON-safe, with the same names for every kind."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_openai_runs.runs.citations import Citation
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.files import RunFile
from airflow_provider_openai_runs.runs.named_ids import check_is_no_result, named_id
from airflow_provider_openai_runs.runs.plain import plain
from airflow_provider_openai_runs.runs.status import RunKind, RunStatus, noun_of
from airflow_provider_openai_runs.runs.text import is_id, message_text
from airflow_provider_openai_runs.runs.usage import Totals, Usage, as_text

#: What a run's ``thread_id`` is the id of, where a sentence about the run names it.
_CONTAINERS: dict[str, str] = {RunKind.THREAD_RUN: "thread"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """Where a run lives: what the record, the trigger and XCom carry, and what a user hands on."""

    kind: str
    id: str
    conn_id: str
    thread_id: str | None = None

    def to_json(self) -> dict[str, str]:
        """Return the public form, ``{"kind", "id", "conn_id", "thread_id"?}``."""
        pairs = {"kind": str(self.kind), "id": self.id, "conn_id": self.conn_id}
        return pairs | ({"thread_id": self.thread_id} if self.thread_id else {})

    @classmethod
    def from_json(cls, value: object) -> RunRef:
        """
        Read the public form.

        :raises RunRequestError: when it is not one; the text names what is missing.
        """
        if isinstance(value, RunRef):
            return value
        if not isinstance(value, dict):
            hint = "; a template makes text of it: give task.output['ref']" if isinstance(value, str) else ""
            raise RunRequestError(f"ref={_shown(value)}: must be a dict with 'kind' and 'id'{hint}.")
        kind, run_id, thread_id = value.get("kind"), value.get("id"), value.get("thread_id")
        if not isinstance(kind, str) or not kind:
            raise RunRequestError(f"ref['kind'] must say which API the run belongs to, not {_shown(kind)}.")
        if not isinstance(run_id, str) or not is_id(run_id):
            raise RunRequestError(f"ref['id'] must be the id of a run, not {_shown(run_id)}.")
        if kind == RunKind.THREAD_RUN and not thread_id:
            raise RunRequestError(f"ref of thread run {run_id!r} lacks 'thread_id'.")
        if thread_id and not is_id(str(thread_id)):
            raise RunRequestError(f"ref['thread_id'] must be the id of a thread, not {_shown(thread_id)}.")
        return cls(
            kind=kind,
            id=run_id,
            thread_id=str(thread_id) if thread_id else None,
            conn_id=str(value.get("conn_id") or "openai_default"),
        )

    @classmethod
    def check_presence(
        cls,
        *,
        ref: object = None,
        thread_id: object = None,
        run_id: object = None,
        response_id: object = None,
    ) -> None:
        """
        Check that one run is named, before templates are rendered.

        :raises RunRequestError: when it is named in no way, or in several.
        """
        ways = [ref is not None, run_id is not None or thread_id is not None, response_id is not None]
        if sum(ways) != 1:
            raise RunRequestError(
                "Name one run: ref=..., or thread_id=... with run_id=..., or run_id='thread_abc:run_xyz', or "
                f"response_id=...; got ref={ref!r}, thread_id={thread_id!r}, run_id={run_id!r}, "
                f"response_id={response_id!r}. Nothing was sent."
            )

    @classmethod
    def resolve(
        cls,
        *,
        ref: object = None,
        thread_id: object = None,
        run_id: object = None,
        response_id: object = None,
        conn_id: str | None = None,
    ) -> RunRef:
        """
        Return the run that a user named in one of the ways there are.

        :param ref: as in XCom; its own connection counts unless ``conn_id`` is given.
        :param run_id: with ``thread_id``, or alone as ``"thread_abc:run_xyz"``.
        :raises RunRequestError: when it is named in no way, or in several.
        """
        cls.check_presence(ref=ref, thread_id=thread_id, run_id=run_id, response_id=response_id)
        if ref is not None:
            check_is_no_result("ref", ref, meant="ref")
            try:
                found = cls.from_json(ref)
            except RunRequestError as error:
                raise RunRequestError(f"{error} Nothing was sent.") from None
            named_id("ref['id']", found.id)
            return found if conn_id is None else dataclasses.replace(found, conn_id=conn_id)
        if response_id is not None:
            run_id = named_id("response_id", response_id)
            return cls.from_json({"kind": RunKind.RESPONSE, "id": run_id, "conn_id": conn_id})
        if thread_id is None and isinstance(run_id, str) and ":" in run_id:
            thread_id, _, run_id = run_id.partition(":")
        if not thread_id:
            raise RunRequestError(
                f"run_id={run_id!r} needs the run's thread: give thread_id=..., or both in one as "
                "run_id='thread_abc:run_xyz'. Nothing was sent."
            )
        run_id, thread_id = named_id("run_id", run_id), named_id("thread_id", thread_id, of="thread")
        return cls.from_json(
            {"kind": RunKind.THREAD_RUN, "id": run_id, "thread_id": thread_id, "conn_id": conn_id}
        )

    @property
    def subject(self) -> str:
        """Return what people read at the beginning of a sentence."""
        text = str(self)
        return text[0].upper() + text[1:]

    @property
    def noun(self) -> str:
        """Return the kind as people read it."""
        return noun_of(self.kind)

    def __str__(self) -> str:
        container = _CONTAINERS.get(self.kind)
        where = f" of {container} {self.thread_id}" if container and self.thread_id else ""
        return f"{self.noun} {self.id}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """
    A call that the model wants answered before it goes on.

    :param arguments: the model's JSON text, as it wrote it.
    :param server: the label of the MCP server that makes the call.
    """

    id: str
    name: str
    arguments: str
    type: str = "function"
    server: str | None = None

    def to_json(self) -> dict[str, str]:
        """Return the call as a task pushes it."""
        named = {"id": self.id, "name": self.name, "arguments": self.arguments, "type": self.type}
        return {**named, "server": self.server} if self.server else named


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing a run did: a run step, or an output item of a response. Times are Unix seconds."""

    id: str
    type: str
    status: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    created_at: int | None = None
    completed_at: int | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PollResult:
    """What one poll of a run brought: enough to decide whether to go on waiting, and no more."""

    status: RunStatus
    #: The status as the server calls it, for logs.
    raw_status: str
    #: Seconds after which the server wants to be asked again (``openai-poll-after-ms``, ``Retry-After``).
    poll_after: float | None = None
    #: Whether the model waits for somebody to answer a call. A response is then ``completed`` all the same.
    needs_action: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything a server tells about a run. Times are Unix seconds; what a server leaves out is None."""

    ref: RunRef
    status: RunStatus
    raw_status: str
    object: str
    created_at: int | None = None
    started_at: int | None = None
    completed_at: int | None = None
    cancelled_at: int | None = None
    failed_at: int | None = None
    expires_at: int | None = None
    assistant_id: str | None = None
    model: str | None = None
    instructions: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    usage: Usage | None = None
    #: Of these tokens; None where nobody says a price.
    cost: Decimal | None = None
    service_tier: str | None = None
    file_ids: tuple[str, ...] = ()
    #: All that the run has produced.
    files: tuple[RunFile, ...] = ()
    last_error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = None
    #: The ceilings that were set, by the API's own names; for the text of an ``incomplete`` run.
    limits: dict[str, int] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    output_text: str | None = None
    #: The model's words where it declines.
    refusal: str | None = None
    #: What ``output_text`` cites.
    citations: tuple[Citation, ...] = ()
    #: The text of the last message, which is the answer where a type was asked for.
    final_text: str | None = None
    #: Completed, with neither text nor call nor refusal, and nothing that was produced.
    is_empty: bool = False
    #: Completed, and no answer among what could be read of its messages, which may not be all.
    is_unread: bool = False
    #: Whether a call counts as made by the server only because nobody says here what the request offered.
    may_wait: bool = False
    steps: tuple[Step, ...] | None = None
    #: Whether something of the steps is not there.
    steps_truncated: bool = False
    raw: dict[str, Any] = field(default_factory=dict)
    #: Where the whole reply was written to, and the answer's text if it is not in XCom.
    reply_uri: str | None = None
    output_uri: str | None = None
    #: What the task that created it has paid for in all; None where nobody knows.
    totals: Totals | None = None
    #: The reply as it came, of a create that was answered when the run had ended.
    body: bytes = field(default=b"", repr=False)

    @property
    def word(self) -> str:
        """Return ``raw_status`` under the name that it had before 1.0."""
        warnings.warn("Run.word is called Run.raw_status now", DeprecationWarning, stacklevel=2)
        return self.raw_status

    @property
    def needs_action(self) -> bool:
        """Whether the model waits for the answer to a call."""
        return bool(self.tool_calls) or self.status is RunStatus.REQUIRES_ACTION

    def to_xcom(self) -> dict[str, Any]:
        """Return the dict that a task pushes: plain JSON under the contract's names."""
        values = {name: getattr(self, name) for name in _SHOWN_FIELDS}
        values["id"] = self.ref.id
        values["thread_id"] = self.ref.thread_id
        values["status"] = self.raw_status
        values["ref"] = self.ref.to_json()
        values["tool_calls"] = [call.to_json() for call in self.tool_calls]
        values["files"] = [file.to_json() for file in self.files]
        if self.steps is None:
            del values["steps"]
        if self.steps is None or not self.steps_truncated:
            del values["steps_truncated"]
        if not self.raw:
            del values["raw"]
        if self.totals is not None:
            values |= {
                "cost": _text_of(self.cost),
                "usage_total": self.totals.usage,
                "cost_total": _text_of(self.totals.cost if self.totals.usage else None),
                "runs_without_usage": self.totals.silent,
            }
        elif self.cost is not None:
            values["cost"] = _text_of(self.cost)
        return {key: None if value is None else plain(value) for key, value in values.items()}


#: What only decides here, and what the result has in another form.
_DECIDES = {"raw_status", "limits", "final_text", "is_empty", "is_unread", "may_wait"}
_APART = {"ref", "body", "totals", "cost"}
_SHOWN_FIELDS = tuple(item.name for item in dataclasses.fields(Run) if item.name not in _DECIDES | _APART)


def _text_of(cost: Decimal | None) -> str | None:
    return None if cost is None else as_text(cost)


def _shown(value: object) -> str:
    return message_text(repr(value), limit=100)
