# SPDX-License-Identifier: Apache-2.0
"""Create thousands of responses from one task, each of them once, and wait for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import conf

from airflow_provider_openai_runs.exceptions import airflow_errors
from airflow_provider_openai_runs.operators.bulk_items import Counted, check_bulk, max_failed_of
from airflow_provider_openai_runs.operators.by_batch import BATCH_WINDOW, check_batch
from airflow_provider_openai_runs.operators.parse_checks import check_ceilings_of
from airflow_provider_openai_runs.operators.response import FIELDS, CreateResponseOperator
from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError
from airflow_provider_openai_runs.runs.processing import Processing

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_openai_runs.bulk.worker_session import WorkerSession

#: A value of its own, to tell it from the same number.
DEFAULT_WINDOW = timedelta(days=1)
#: The journal counts the creates of an item in a byte.
MAX_RETRIES = 255
#: The method that Airflow names when a trigger died or timed out.
_TRIGGER_DIED = "__fail__"


class BulkCreateResponsesOperator(CreateResponseOperator):
    """
    Create a background response for each item of a list or a file, and wait for all of them (Airflow 3.3+).

    The remaining arguments are those of ``CreateResponseOperator``; they hold for every item that does not
    bring its own. ``poll_interval`` and ``timeouts`` count for each item.

    :param items: texts, or dicts of arguments; at most 5,000 of 5 MB.
    :param input_path: a file that ends in .jsonl, .csv or .parquet, on any storage of Airflow's.
    :param request: from a row's values to the arguments that differ, or to the input.
    :param output_path: where results, journal and manifest are written; required.
    :param processing: ``"batch"`` sends the items through the Batch API: half the price, and up to a day.
        ``max_active``, the rates, ``polls_per_second``, ``max_unrecorded`` and ``collect_within`` have no
        meaning there.
    :param completion_window: seconds (or a timedelta) for the whole task, from its first attempt: a day, with
        ``processing="batch"`` 26 hours.
    :param max_active: runs that may be active at the server at once.
    :param requests_per_minute: creates that may be sent in a minute.
    :param tokens_per_minute: tokens that the items of a minute may take, as far as they can be estimated.
    :param polls_per_second: polls of all runs together.
    :param item_retries: further runs of an item whose run ended badly, where that may help.
    :param max_failed: items that may fail before the task does: a number, or a share as a float. A task
        without a single success fails in any case.
    :param max_unrecorded: creates that may be under way at once; so many may be lost with a worker.
    :param collect_within: seconds that the end of a run may wait for a worker that reads it.
    """

    template_fields: Sequence[str] = (
        "items",
        "input_path",
        "conn_id",
        "completion_window",
        "output_path",
        *FIELDS,
    )
    operator_extra_links = ()  # type: ignore[assignment]  # no page shows all of them
    ui_color = "#cfe8f5"

    @airflow_errors()
    def __init__(
        self,
        *,
        items: Any = None,
        input_path: Any = None,
        request: Callable[[Mapping[str, Any]], Any] | None = None,
        output_path: str | None = None,
        processing: Processing | Literal["batch"] | None = None,
        completion_window: float | timedelta | None = DEFAULT_WINDOW,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        max_active: int = 500,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        polls_per_second: float = 200,
        item_retries: int = 2,
        max_failed: float | None = None,
        max_unrecorded: int = 100,
        collect_within: float | timedelta = 300,
        **kwargs: Any,
    ) -> None:
        check_bulk(
            items=items,
            input_path=input_path,
            output_path=output_path,
            completion_window=completion_window,
            request=request,
            **kwargs,
        )
        #: Whether the items are executed by the Batch API.
        self.by_batch = processing == "batch"
        if completion_window is DEFAULT_WINDOW:
            completion_window = BATCH_WINDOW if self.by_batch else DEFAULT_WINDOW.total_seconds()
        super().__init__(
            output_path=output_path,
            processing=None if self.by_batch else processing,  # type: ignore[arg-type]  # checked there
            completion_window=completion_window,
            deferrable=deferrable,
            **kwargs,
        )
        if self.by_batch:
            check_batch(self)
        self.items = items
        self.input_path = input_path
        self.request = request
        checks.count("max_resubmits", self.max_resubmits, high=MAX_RETRIES)
        check_ceilings_of(self, is_bounded=request is not None)
        self.max_active = checks.count("max_active", max_active, low=1)
        self.requests_per_minute = _rate("requests_per_minute", requests_per_minute)
        self.tokens_per_minute = _rate("tokens_per_minute", tokens_per_minute)
        self.polls_per_second = checks.seconds("polls_per_second", polls_per_second)
        self.item_retries = checks.count("item_retries", item_retries, low=0, high=MAX_RETRIES)
        self.max_failed = max_failed_of(max_failed)
        self.max_unrecorded = checks.count("max_unrecorded", max_unrecorded, low=1)
        self.collect_within = checks.seconds("collect_within", collect_within)
        self._session: WorkerSession | None = None

    def _check_ceilings(self) -> None:
        """Check nothing yet: ``request`` may bring what bounds each item."""

    def _check_presence(self) -> None:
        """Check nothing: each row brings what to ask."""

    def execute(self, context: Context) -> Any:
        """Create what no earlier attempt has created, and wait for all of it."""
        return self._go_on(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Collect what has ended meanwhile, and go on."""
        found = event if isinstance(event, Mapping) else {}
        return self._go_on(context, event=found)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume; when the trigger died, wait in the worker."""
        if next_method == _TRIGGER_DIED:
            self.log.warning("The trigger has died; the worker waits in its place")
            return self._go_on(context, event={"reason": "died"})
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """End what is active, or leave it to a retry, within the seconds that Airflow gives."""
        self._is_killed = True
        if self._session is not None:
            self._session.kill()

    def _go_on(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:
        # Imported here and nowhere above: it brings the SDK, and a Dag file is parsed every few seconds.
        from airflow_provider_openai_runs.operators import bulk_perform  # noqa: PLC0415

        with airflow_errors():
            self._session = bulk_perform.session_of(self, context)
            if self._is_killed:  # before there was a session to tell
                self._session.kill()
            return bulk_perform.go_on(self, self._session, context, event=event or {})

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(*args, **kwargs)
        # Airflow stores the rendered fields right after this.
        if self.items is not None and not isinstance(self.items, Counted):
            self.items = Counted(self.items)


def _rate(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise RunRequestError(f"{name}={value!r} must be a number above 0, or None. Nothing was sent.")
    return float(value)
