# SPDX-License-Identifier: Apache-2.0
"""
The API's own windows for background responses: cheaper, and as slow as hours.

A task that waits for less than they may take would cancel what it has paid for
(https://developers.openai.com/api/docs/guides/background).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from airflow_provider_openai_runs.runs import checks
from airflow_provider_openai_runs.runs.errors import RunRequestError

#: How a response is processed: at once, or within a window of the API, for less.
Processing = Literal["standard", "2h", "8h"]
#: The seconds of each window. It is a target, counted from acceptance, so a task waits somewhat longer.
WINDOWS = {"2h": 2 * 3600.0, "8h": 8 * 3600.0}
WINDOW_MARGIN = 1.25
#: Tiers in which a window is served.
_STANDARD_TIERS = (None, "auto", "default")

#: Arguments of a response that the Batch API has no use for.
REFUSED_BY_BATCH = ("background_options", "service_tier")


def batch_refuses(name: str) -> str:
    """Return what is said of an argument that is refused by batch."""
    return (
        f"{name} and processing='batch' exclude each other: a batch has one price and one window. "
        "Nothing was sent."
    )


def background_options(processing: object) -> dict[str, str] | None:
    """
    Return what asks for a way of processing; None asks for nothing.

    :raises RunRequestError: if there is no such way.
    """
    if processing is None:
        return None
    if processing == "batch":
        rule = "is a way of BulkCreateResponsesOperator only: one run has no batch"
        raise checks.invalid("processing", processing, rule)
    checks.choice("processing", processing, get_args(Processing))
    return {"completion_window": str(processing)} if processing in WINDOWS else None


def window_of(body: Mapping[str, Any]) -> str | None:
    """Return the window that a request asks for; None if it asks for none that is known."""
    options = body.get("background_options")
    window = options.get("completion_window") if isinstance(options, Mapping) else None
    return window if isinstance(window, str) and window in WINDOWS else None


def check_window(
    body: Mapping[str, Any], *, waits: Mapping[str, float | None], name: str = "processing"
) -> None:
    """
    Refuse a window that the API would refuse, or that the task would not wait for.

    :param body: of the request, as far as it is known.
    :param waits: by the argument's name, after how many seconds the task cancels the run.
    :param name: the argument that asks for the window.
    :raises RunRequestError: naming both arguments.
    """
    window = window_of(body)
    if window is None:
        return
    asked = f"{name}={window!r}"
    tier = body.get("service_tier")
    if tier not in _STANDARD_TIERS:
        raise RunRequestError(
            f"{asked} and service_tier={tier!r} exclude each other: the API has its windows in the standard "
            "tier only. Nothing was sent."
        )
    if body.get("background") is False:
        raise RunRequestError(f"{asked} needs a background response, and background=False. Nothing was sent.")
    least = WINDOWS[window] * WINDOW_MARGIN
    for argument, seconds in waits.items():
        if seconds is not None and seconds < least:
            raise RunRequestError(
                f"{argument}={seconds:.15g} is too short for {asked}: the response may take "
                f"{WINDOWS[window]:.0f} s and more, is paid for all the same, and would be cancelled. Wait "
                f"{least:.0f} s at least, or not at all (completion_window=None). Nothing was sent."
            )
